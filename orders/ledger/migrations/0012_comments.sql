-- Orders by comment. `keyword_form` is what a keyword is once case, width and invisible marks are
-- left out, as the grammar reads it; it stands for one offer of a stream. A draft that was closed
-- gives its keyword back.
alter table offers
    add column keyword_form text,
    add column keyword_mode text not null default 'contains'
                            check (keyword_mode in ('contains', 'exact'));

-- Of keywords from before, the first of each stream counts; nearly always there is one.
update offers o set keyword_form = f.form
  from (select distinct on (stream, form) id, form
          from (select x.id, x.stream, lower(normalize(x.keyword, nfkc)) as form from offers x
                 where x.keyword is not null and x.parent is null) named
         order by stream, form, id) f
 where o.id = f.id;

create unique index offers_keyword on offers (stream, keyword_form)
    where keyword_form is not null and parent is null and (announced or status <> 'closed');

-- What somebody said that asks for units, or may: committed before anything is bought, so that a
-- crash loses none. `state`: `new` is being bought, by whoever took it up until `due_at`; `unread`
-- waits for the host.
create table comments (
    id       text primary key,
    stream   text not null references streams (id),
    key      text not null,                 -- of its orders; from platform and comment
    platform text not null,                 -- `livecart`: the stream's own chat
    comment  text not null,                 -- its id there
    viewer   text not null,
    name     text,
    text     text not null,
    said_at  bigint,                        -- in ms, as the platform has it
    at       timestamptz not null default clock_timestamp(),
    state    text not null check (state in ('new', 'unread', 'done', 'dismissed')),
    why      text check (why in ('ambiguous', 'unreadable')),
    asks     jsonb not null default '[]',   -- what it was read as: [{offer, qty}]
    answers  jsonb not null default '[]',   -- what became of it: [{offer, qty, order?, code?}]
    manual   boolean not null default false,  -- the host read it
    tries    integer not null default 1,
    due_at   timestamptz not null default clock_timestamp(),
    edited   text,                          -- the last other text that came under its id; not obeyed
    edits    integer not null default 0,
    constraint comments_key_binds_once unique (stream, key)
) with (fillfactor = 80);
create index comments_listed on comments (stream, state, id);
create index comments_due on comments (due_at) where state = 'new';

-- `create or replace` would leave those with fewer arguments standing beside the new one.
do $$
declare f regprocedure;
begin
    for f in select p.oid::regprocedure from pg_proc p
              where p.proname = 'create_offer' and p.pronamespace = current_schema()::regnamespace loop
        execute format('drop function %s', f);
    end loop;
end $$;
