-- Comments that ask for units: kept, taken up, and done with. Rows of `comments` are locked alone,
-- by key where there are several: nothing else is locked with them, and they come before all that a
-- buy locks, which is another transaction.

-- keyword_taken: whether another offer of the stream, which is locked, is called so.
create or replace function keyword_taken(p_stream text, p_offer text, p_form text) returns boolean
language sql stable as $$
    select exists (select 1 from offers o
                    where o.stream = p_stream and o.keyword_form = p_form and o.id <> p_offer
                      and o.parent is null and (o.announced or o.status <> 'closed'));
$$;

-- may_be_called: whether a locked draft may have this keyword, or none (''): ok, conflict (the show
-- is live, and the keyword was said to it), keyword_taken. Null is what the draft has.
create or replace function may_be_called(p_offer offers, p_form text, p_mode text) returns text
language plpgsql stable as $$
begin
    if (coalesce(p_form, p_offer.keyword_form), coalesce(p_mode, p_offer.keyword_mode))
       is not distinct from (p_offer.keyword_form, p_offer.keyword_mode) then
        return 'ok';
    elsif p_offer.keyword_form is not null
          and exists (select 1 from streams s where s.id = p_offer.stream and s.status <> 'scheduled')
    then
        return 'conflict';
    elsif p_form is not null and keyword_taken(p_offer.stream, p_offer.id, p_form) then
        return 'keyword_taken';
    end if;
    return 'ok';
end $$;

-- record_comments: keep comments of one stream, each once; parallel arrays in the order of keys, so
-- that two calls never wait for each other in a circle. Of one that is known already the text is
-- kept if it is another: an edit is not obeyed. `talk` in place of a state: keep that alone, it asks
-- for nothing. Returns the rows as they are then; a fresh one has the id that was given.
create or replace function record_comments(
    p_stream text, p_platform text, p_ids text[], p_keys text[], p_comments text[],
    p_viewers text[], p_names text[], p_texts text[], p_said_ats bigint[], p_states text[],
    p_whys text[], p_asks text[], p_lease_s integer
) returns setof comments language plpgsql as $$
declare
    c comments;
begin
    for i in 1 .. coalesce(array_length(p_ids, 1), 0) loop
        c := null;
        if p_states[i] <> 'talk' then
            insert into comments (id, stream, key, platform, comment, viewer, name, text, said_at,
                                  state, why, asks, due_at)
                values (p_ids[i], p_stream, p_keys[i], p_platform, p_comments[i], p_viewers[i],
                        p_names[i], p_texts[i], p_said_ats[i], p_states[i], p_whys[i],
                        p_asks[i]::jsonb, clock_timestamp() + make_interval(secs => p_lease_s))
                on conflict (stream, key) do nothing
                returning * into c;
        end if;
        if c.id is null then
            select * into c from comments x where x.stream = p_stream and x.key = p_keys[i];
            if c.id is not null and p_texts[i] <> coalesce(c.edited, c.text) then
                update comments x set edited = p_texts[i], edits = x.edits + 1
                    where x.id = c.id returning * into c;
            end if;
        end if;
        if c.id is not null then
            return next c;
        end if;
    end loop;
end $$;

-- take_up_comments: take what nobody has finished in time; each for `p_lease_s`.
create or replace function take_up_comments(p_limit integer, p_lease_s integer)
returns setof comments language sql as $$
    update comments x
       set due_at = clock_timestamp() + make_interval(secs => p_lease_s), tries = x.tries + 1
     where x.id in (select d.id from comments d
                     where d.state = 'new' and d.due_at <= clock_timestamp()
                     order by d.due_at limit p_limit for update skip locked)
    returning x.*;
$$;

-- finish_comments: note what became of comments, locked in the order of keys. One that the host read
-- and that made no order goes back to him.
create or replace function finish_comments(p_ids text[], p_answers text[]) returns void
language sql as $$
    update comments c
       set answers = x.answers::jsonb,
           state = case when c.manual and not x.answers::jsonb @? '$[*].order' then 'unread'
                        else 'done' end
      from (select l.id from comments l where l.id = any (p_ids) order by l.key for update) l
      join unnest(p_ids, p_answers) as x (id, answers) on x.id = l.id
     where c.id = l.id and c.state = 'new';
$$;

-- order_comment: the host says what an unread comment asks for; whoever takes it up buys it. Words:
-- ok, again (he said the same before), conflict, not_found.
create or replace function order_comment(
    p_comment text, p_asks jsonb, p_lease_s integer, out word text, out now comments
) language plpgsql as $$
begin
    select * into now from comments where id = p_comment for no key update;
    word := case when now.id is null then 'not_found'
                 when now.state = 'unread' then 'ok'
                 when now.state in ('new', 'done') and now.manual and now.asks = p_asks then 'again'
                 else 'conflict' end;
    if word = 'ok' then
        update comments set state = 'new', manual = true, asks = p_asks,
                            due_at = clock_timestamp() + make_interval(secs => p_lease_s)
            where id = p_comment returning * into now;
    end if;
end $$;

-- dismiss_comment: the host has seen an unread comment and nothing is to come of it. The same words.
create or replace function dismiss_comment(p_comment text, out word text, out now comments)
language plpgsql as $$
begin
    select * into now from comments where id = p_comment for no key update;
    word := case when now.id is null then 'not_found'
                 when now.state = 'unread' then 'ok'
                 when now.state = 'dismissed' then 'again'
                 else 'conflict' end;
    if word = 'ok' then
        update comments set state = 'dismissed' where id = p_comment returning * into now;
    end if;
end $$;
