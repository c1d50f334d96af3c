-- The waitlist (R12): who joins, who leaves, and who gets units that come back.

-- promote: make orders of the first entries that fit into the free units of a locked offer, in rank
-- order, until none fits. Whatever frees units calls it in the same transaction, before it notes its
-- own movements: so the gate never has for sale what was handed over. Exempt from the fence, since
-- no hold stands behind an entry. It writes what it changed of the offer, the quantity too, which may
-- be what the caller just raised.
--
-- An entry whose viewer has all that he may have keeps its place: one of his orders may end yet. That
-- of a banned viewer goes, as does one whose key has an order already.
create or replace function promote(p_offer offers, p_at timestamptz) returns offers
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
as $$
declare
    o offers := p_offer;
    e record;
    have bigint;
    made text;
    banned boolean;
    of_offer text := coalesce(p_offer.parent, p_offer.id);
begin
    if o.buckets > 1 or o.waiting = 0 or o.status not in ('open', 'sold_out') or o.closes_at <= p_at then
        return o;
    end if;
    for e in select w.viewer, w.key, w.qty, w.rank from waitlist w
              where w.offer = of_offer and w.bucket = o.bucket and w.left_at is null
                and w.qty <= o.quantity - o.taken
              order by w.rank loop
        exit when o.taken >= o.quantity;
        continue when e.qty > o.quantity - o.taken;
        select exists (select 1 from standings s where s.stream = o.stream
                          and s.viewer = e.viewer and s.banned) into banned;
        select sum(r.qty) into have from orders r
         where r.offer = of_offer and r.viewer = e.viewer
           and r.status in ('reserved', 'confirmed', 'shipped');
        continue when not banned and coalesce(have, 0) + e.qty > o.per_viewer;
        delete from waitlist w where w.offer = of_offer and w.viewer = e.viewer;
        o.waiting := o.waiting - 1;
        continue when banned;
        -- On conflict: one that cannot become an order must not keep everybody's units from coming back.
        insert into orders (id, offer, bucket, stream, viewer, key, qty, unit_price_minor, status,
                            rank, reserved_at, expires_at, confirmed_at, epoch)
            values (new_order_id(p_at), of_offer, o.bucket, o.stream, e.viewer, e.key, e.qty, o.price_minor,
                    case o.payment when 'none' then 'confirmed' else 'reserved' end, e.rank, p_at,
                    case o.payment when 'none' then null
                                   else p_at + make_interval(secs => o.waitlist_hold_s) end,
                    case o.payment when 'none' then p_at end, o.epoch)
            on conflict do nothing
            returning id into made;
        continue when made is null;
        o.taken := o.taken + e.qty;
        o.confirmed := o.confirmed + case o.payment when 'none' then e.qty else 0 end;
        o.last_movement := move(o.id, o.last_movement, o.epoch, 'take', -e.qty, made, 'waitlist',
                                p_at);
    end loop;
    update offers set quantity = o.quantity, taken = o.taken, confirmed = o.confirmed,
                      waiting = o.waiting, last_movement = o.last_movement
        where id = o.id;
    return o;
end $$;

-- sell_out: an open offer without a free unit is sold out; tell so. The caller writes the status.
create or replace function sell_out(p_offer offers) returns offers language plpgsql as $$
declare o offers := p_offer;
begin
    if o.status = 'open' and o.taken = o.quantity and o.bucket = 0 then
        o.status := 'sold_out';
        perform tell(o.stream, 'offer.sold_out', o.id, null, offer_body(o));
    end if;
    return o;
end $$;

-- drop_served: drop the entries of a locked offer whose key just became that of an order, so that
-- nobody waits for what he has.
create or replace function drop_served(p_offer offers, p_viewers text[], p_keys text[])
returns offers language plpgsql as $$
declare
    o offers := p_offer;
    of_offer text := coalesce(p_offer.parent, p_offer.id);
    gone integer;
begin
    with served as (
        delete from waitlist w using unnest(p_viewers, p_keys) as x (viewer, key)
         where w.offer = of_offer and w.viewer = x.viewer and w.key = x.key and w.left_at is null
           and exists (select 1 from orders r where r.offer = of_offer and r.viewer = x.viewer
                          and r.key = x.key)
        returning 1)
    select count(*) into gone from served;
    if gone > 0 then
        o.waiting := o.waiting - gone;
        update offers set waiting = o.waiting where id = o.id;
    end if;
    return o;
end $$;

-- drop_waitlist: nobody waits any more for a locked offer.
create or replace function drop_waitlist(p_offer offers) returns offers language plpgsql as $$
declare o offers := p_offer;
begin
    delete from waitlist where offer = coalesce(o.parent, o.id) and o.bucket in (0, bucket);
    o.waiting := 0;
    update offers set waiting = 0 where id = o.id and waiting > 0;
    return o;
end $$;

-- place_of: where a live entry of that rank stands, from 1, in its bucket if it is in one. Counted
-- from the end, where who just joined stands.
create or replace function place_of(p_offer offers, p_rank bigint) returns integer
language sql stable as $$
    select p_offer.waiting - count(*)::integer from waitlist w
     where w.offer = coalesce(p_offer.parent, p_offer.id) and w.bucket = p_offer.bucket
       and w.left_at is null and w.rank > p_rank;
$$;

-- join_waitlist: put viewers on the list of an offer that their buys found sold out, once each.
--
-- One call in autocommit, as admit (R3), with ranks of the gate's counter drawn under p_epoch (R2).
-- The offer is locked, so no unit comes back unseen: one that did meanwhile is `free`, and the
-- viewer buys it. Back, a row a line: waiting (joined now), waits (he did before) with his place;
-- again (an order has this key); key_reused (with another qty); conflict (he waits for another
-- number of units, or withdrew this very request); epoch; why the offer takes no order; forbidden;
-- limit_reached; free; full.
--
-- An offer that will be drawn takes entries until its window closes; from then until it is drawn a
-- line is `due`, and asks again.
create or replace function join_waitlist(
    p_offer text, p_epoch integer, p_viewers text[], p_keys text[], p_qtys integer[],
    p_ranks bigint[]
) returns table (word text, place integer)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    o offers;
    e waitlist;
    now_at timestamptz;
    refused text;
    seen boolean;
    have bigint;
    joined integer := 0;
    gathering boolean;
    of_offer text;
begin
    select * into o from offers where id = p_offer for update;
    if not found then
        raise exception 'join_waitlist: no offer %', p_offer using errcode = 'no_data_found';
    end if;
    now_at := clock_timestamp();
    gathering := gathers(o);
    of_offer := coalesce(o.parent, o.id);
    refused := shut(o, p_epoch, now_at);
    if gathering and refused = 'not_open' then
        refused := case when o.opens_at <= now_at then 'due' end;
    end if;
    refused := coalesce(refused, case when o.closes_at <= now_at then 'closed' end);
    for i in 1 .. cardinality(p_viewers) loop
        place := null;
        select * into e from waitlist w where w.offer = of_offer and w.viewer = p_viewers[i];
        select bool_or(r.key = p_keys[i]),
               sum(r.qty) filter (where r.status in ('reserved', 'confirmed', 'shipped'))
          into seen, have
          from orders r where r.offer = of_offer and r.viewer = p_viewers[i];
        word := case
            when seen then 'again'
            when e.key = p_keys[i] and e.left_at is not null then 'conflict'
            when e.left_at is null and e.qty = p_qtys[i] then 'waits'
            when e.left_at is null and e.key = p_keys[i] then 'key_reused'
            when e.left_at is null and e.key is not null then 'conflict'
            when refused is not null then refused
            when exists (select 1 from standings s where s.stream = o.stream
                            and s.viewer = p_viewers[i] and s.banned) then 'forbidden'
            when coalesce(have, 0) + p_qtys[i] > o.per_viewer then 'limit_reached'
            when o.taken + p_qtys[i] <= o.quantity and not gathering then 'free'
            when o.waiting >= o.waitlist_max then 'full'
            else 'waiting' end;
        if word = 'waiting' then
            insert into waitlist as w (offer, bucket, viewer, key, qty, rank, joined_at)
                values (of_offer, o.bucket, p_viewers[i], p_keys[i], p_qtys[i], p_ranks[i], now_at)
                on conflict (offer, viewer) do update
                   set key = excluded.key, qty = excluded.qty, rank = excluded.rank,
                       joined_at = excluded.joined_at, left_at = null;
            o.waiting := o.waiting + 1;
            joined := joined + 1;
            place := place_of(o, p_ranks[i]);
        elsif word = 'waits' then
            place := place_of(o, e.rank);
        end if;
        return next;
    end loop;
    if joined > 0 then
        update offers set waiting = o.waiting, version = version + 1 where id = p_offer;
    end if;
end $$;

-- leave_waitlist: wait no more. The word is ok, again (he does not wait) or not_found.
create or replace function leave_waitlist(p_offer text, p_viewer text) returns text
language plpgsql as $$
declare
    home text;
begin
    select coalesce((select home_of(w.offer, w.bucket) from waitlist w
                      where w.offer = p_offer and w.viewer = p_viewer), p_offer) into home;
    perform 1 from offers where id = home for update;
    if not found then
        return 'not_found';
    end if;
    update waitlist set left_at = clock_timestamp()
        where offer = p_offer and viewer = p_viewer and left_at is null
          and home_of(offer, bucket) = home;  -- else he joined since, and is not under this lock
    if not found then
        return 'again';
    end if;
    update offers set waiting = waiting - 1, version = version + 1 where id = home;
    return 'ok';
end $$;

-- drop_waiter: take a viewer off the lists of a stream that he is banned from; returns how many.
create or replace function drop_waiter(p_stream text, p_viewer text) returns integer
language plpgsql as $$
declare
    home text;
    offer_id text;
    dropped integer := 0;
begin
    for home, offer_id in select home_of(w.offer, w.bucket), w.offer
                            from waitlist w join offers o on o.id = w.offer
                           where o.stream = p_stream and w.viewer = p_viewer order by 1 loop
        perform 1 from offers where id = home for update;
        delete from waitlist where offer = offer_id and viewer = p_viewer and left_at is null;
        if found then
            update offers set waiting = waiting - 1, version = version + 1 where id = home;
            dropped := dropped + 1;
        end if;
    end loop;
    return dropped;
end $$;
