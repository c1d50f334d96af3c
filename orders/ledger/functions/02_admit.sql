-- shut: why a locked offer takes no order with a new key whatever its stock, or null when it does.
create or replace function shut(p_offer offers, p_epoch integer, p_now timestamptz) returns text
language plpgsql as $$
declare stream_live boolean;
begin
    select s.status = 'live' into stream_live from streams s where s.id = p_offer.stream;
    return case
        when p_offer.status = 'closed' then 'closed'
        when p_offer.epoch <> p_epoch then 'epoch'
        when not stream_live then 'not_live'
        -- The gate opens by its own clock and opening latches (R8); two seconds is more than two
        -- well-kept clocks differ by. A draw opens by being drawn, here.
        when p_offer.status = 'scheduled' and p_offer.mode = 'sale'
             and p_offer.opens_at <= p_now + interval '2 s' then null
        when p_offer.status in ('draft', 'paused', 'scheduled') then 'not_open'
    end;
end $$;

-- take_units: count units that were just inserted as orders of a locked offer, and tell what that
-- makes of its status. Returns the offer as it is now.
create or replace function take_units(p_offer offers, p_units integer) returns offers
language plpgsql as $$
declare o offers := p_offer;
begin
    o.taken := o.taken + p_units;
    if o.payment = 'none' then
        o.confirmed := o.confirmed + p_units;
    end if;
    o.version := o.version + 1;
    if o.status = 'scheduled' then
        o.status := 'open';
        o := promote(o, clock_timestamp());  -- who joined before the keeper opened it
        o.last_movement := move(o.id, o.last_movement, o.epoch, 'state', 0, null, 'opened');
        if o.bucket = 0 then  -- of the whole offer the keeper tells, who opens it
            perform tell(o.stream, 'offer.opened', o.id, null, offer_body(o));
        end if;
    end if;
    o := sell_out(o);
    update offers set taken = o.taken, confirmed = o.confirmed, version = o.version,
                      status = o.status, last_movement = o.last_movement
        where id = o.id;
    return o;
end $$;

-- admit: make order rows for a batch of holds of one offer; the only place where orders are born,
-- but for admit_bundle.
--
-- One call in autocommit (R3): it locks the offer, so no lock waits for a client; each statement
-- after the lock has a fresh snapshot. The lines are parallel arrays in rank order, each (viewer,
-- key) at most once a call. `outcomes` is null when every line was inserted as `status`, else one
-- word a line: ok, again (the key has a row already), epoch, fenced, not_live, closed, not_open,
-- limit_reached, sold_out.
--
-- The plans are pinned: on a growing table without statistics the planner falls into sequential
-- scans. The set-based path answers a batch that the gate already screened; a batch in which any
-- line is doubtful goes line by line.
create or replace function admit(
    p_offer text, p_epoch integer, p_ids text[], p_viewers text[], p_keys text[],
    p_qtys integer[], p_ranks bigint[],
    out outcomes text[], out order_status text, out reserved_ms bigint, out expires_ms bigint,
    out left_units integer, out offer_version bigint, out told boolean
) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
declare
    o offers;
    n integer := coalesce(array_length(p_ids, 1), 0);
    now_at timestamptz;
    expire_at timestamptz;
    confirm_at timestamptz;
    was text;
    refused text;      -- what every line that has no row yet is refused with
    total bigint;
    clean boolean;
    inserted integer := 0;
    seen boolean;
    have bigint;
    of_offer text;     -- as the wire calls it, where p_offer is a bucket
begin
    told := false;
    select * into o from offers where id = p_offer for update;
    if not found then
        raise exception 'admit: no offer %', p_offer using errcode = 'no_data_found';
    end if;
    of_offer := coalesce(o.parent, o.id);
    now_at := clock_timestamp();
    order_status := case when o.payment = 'none' then 'confirmed' else 'reserved' end;
    if o.payment = 'none' then
        confirm_at := now_at;
    else
        expire_at := now_at + make_interval(secs => o.hold_s);
    end if;
    reserved_ms := ms(now_at);
    expires_ms := ms(expire_at);

    refused := shut(o, p_epoch, now_at);
    if refused is null then
        select coalesce(sum(l.qty), 0),
               coalesce(bool_and(not l.seen and l.have + l.batch <= o.per_viewer
                                 and l.rank > o.fence_rank), true)
          into total, clean
          from (select x.qty, x.rank,
                       sum(x.qty) over (partition by x.viewer) as batch,
                       coalesce(s.have, 0) as have, coalesce(s.seen, false) as seen
                  from unnest(p_viewers, p_keys, p_qtys, p_ranks) as x (viewer, key, qty, rank)
                  left join lateral (
                       select sum(r.qty) filter
                                  (where r.status in ('reserved', 'confirmed', 'shipped')) as have,
                              bool_or(r.key = x.key) as seen
                         from orders r where r.offer = of_offer and r.viewer = x.viewer) s on true
               ) l;
        clean := clean and o.taken + total <= o.quantity;
    else
        clean := false;
    end if;

    if clean then
        insert into orders (id, offer, bucket, stream, viewer, key, qty, unit_price_minor, status,
                            rank, reserved_at, expires_at, confirmed_at, epoch)
            select x.id, of_offer, o.bucket, o.stream, x.viewer, x.key, x.qty, o.price_minor,
                   order_status, x.rank, now_at, expire_at, confirm_at, o.epoch
              from unnest(p_ids, p_viewers, p_keys, p_qtys, p_ranks)
                   as x (id, viewer, key, qty, rank);
        inserted := total;
    else
        outcomes := array_fill('ok'::text, array[n]);
        for i in 1 .. n loop
            select bool_or(r.key = p_keys[i]),
                   sum(r.qty) filter (where r.status in ('reserved', 'confirmed', 'shipped'))
              into seen, have
              from orders r where r.offer = of_offer and r.viewer = p_viewers[i];
            if seen then
                outcomes[i] := 'again';
            elsif refused is not null then
                outcomes[i] := refused;
            elsif p_ranks[i] <= o.fence_rank then
                outcomes[i] := 'fenced';
            elsif coalesce(have, 0) + p_qtys[i] > o.per_viewer then
                outcomes[i] := 'limit_reached';
            elsif o.taken + inserted + p_qtys[i] > o.quantity then
                outcomes[i] := 'sold_out';
            else
                insert into orders (id, offer, bucket, stream, viewer, key, qty, unit_price_minor,
                                    status, rank, reserved_at, expires_at, confirmed_at, epoch)
                    values (p_ids[i], of_offer, o.bucket, o.stream, p_viewers[i], p_keys[i],
                            p_qtys[i], o.price_minor, order_status, p_ranks[i], now_at, expire_at,
                            confirm_at, o.epoch);
                inserted := inserted + p_qtys[i];
            end if;
        end loop;
    end if;

    if inserted > 0 then
        if o.waiting > 0 then
            o := drop_served(o, p_viewers, p_keys);
        end if;
        was := o.status;
        o := take_units(o, inserted);
        told := o.status <> was;
    end if;
    left_units := o.quantity - o.taken;
    offer_version := o.version;
end $$;
