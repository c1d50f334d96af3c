-- Offers whose units are drawn among those who entered. The commitment stands in the offer from the
-- start, the seed once it is drawn; until then it is in `draws` alone, which no fact, answer or
-- catalog query reads, so that none can show it by mistake.
alter table offers
    add column mode      text not null default 'sale' check (mode in ('sale', 'draw')),
    add column seed_hash text,  -- hex of sha256(seed)
    add column seed      text,  -- hex, once drawn
    add constraint offers_draw_has_commitment check ((mode = 'draw') = (seed_hash is not null)),
    -- Whoever draws holds the offer's lock for as long as it takes: bounded, and so is the record.
    add constraint offers_draw_is_bounded
        check (mode = 'sale' or waitlist_max between 1 and 50000);

create table draws (
    offer     text primary key references offers (id),
    seed      bytea not null,  -- 32 bytes
    drawn_at  timestamptz,
    entries   integer,         -- how many took part,
    winners   integer,         -- won,
    units     integer,         -- and what they won
    threshold bytea            -- the highest score that won
);

-- What a draw found, for whoever checks it later: entries themselves go as they are served.
create table draw_entries (
    offer  text not null,   -- no foreign key, as for orders: hold_draw() alone inserts
    place  integer not null,  -- by score, from 1
    viewer text not null,
    qty    integer not null,
    score  bytea not null,  -- HMAC-SHA256(seed, viewer)
    rank   bigint not null,  -- that was dealt to it
    won    boolean not null,
    primary key (offer, place),
    unique (offer, viewer)
);

-- As of movements and orders: what was committed to, shown or found stays.
create trigger draw_entries_stay before update or delete or truncate on draw_entries
    for each statement execute function refuse_rewriting();
create trigger draws_seed_stays before update of offer, seed on draws
    for each statement execute function refuse_rewriting();
create trigger offers_commitment_stays before update of mode, seed_hash on offers
    for each row when (old.announced and old.seed_hash is not null)
    execute function refuse_rewriting();
create trigger offers_seed_stays before update of seed on offers
    for each row when (old.seed is not null) execute function refuse_rewriting();

-- `create or replace` would leave the one without `mode` standing beside the new one.
drop function if exists create_offer(text, text, text, bigint, integer, integer, timestamptz,
                                     timestamptz, integer, text, text, integer, integer, integer);
