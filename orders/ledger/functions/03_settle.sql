-- How reserved orders end or are paid. Each returns the orders as they are now, so that whoever asks
-- knows them with the same answer: a second question could fail after the COMMIT. Pay, cancel and expire race on one row under one offer
-- lock, and exactly one wins: each is a conditional update on the status (I8).

-- give_back: end these orders of one locked offer and free their units, for who waits first (R12).
-- The caller holds the offer's lock and has checked each order's status under it. Returns the offer
-- as it is now.
create or replace function give_back(
    p_offer offers, p_ids text[], p_status text, p_reason text
) returns offers language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    o offers := p_offer;
    ids text[];
    qtys integer[];
    units integer;
    paid integer;
    now_at timestamptz;
begin
    -- In sets: ten thousand orders may fall due in a second.
    with before as (
        select b.id, b.status as was, b.qty from orders b where b.id = any (p_ids)
           and b.status in ('reserved', 'confirmed', 'shipped') order by b.id for update),
    ended as (
        update orders x set status = p_status, version = x.version + 1, ended_reason = p_reason,
               refunded_minor = case when x.captured_at is null then x.refunded_minor
                                     else x.qty * x.unit_price_minor end
          from before where x.id = before.id
        returning x.id, x.qty, before.was)
    select coalesce(sum(e.qty), 0),
           coalesce(sum(e.qty) filter (where e.was in ('confirmed', 'shipped')), 0),
           coalesce(array_agg(e.id order by e.id), '{}'), array_agg(e.qty order by e.id)
      into units, paid, ids, qtys from ended e;
    o.taken := o.taken - units;
    o.confirmed := o.confirmed - paid;
    now_at := clock_timestamp();
    if o.waiting > 0 then
        o := promote(o, now_at);
    end if;
    insert into movements (offer, n, kind, units, order_id, reason, epoch, at)
        select o.id, o.last_movement + m.place, 'release', m.qty, m.id, p_reason, o.epoch, now_at
          from unnest(ids, qtys) with ordinality as m (id, qty, place);
    o.last_movement := o.last_movement + cardinality(ids);
    o.version := o.version + 1;
    if o.status = 'sold_out' and o.taken < o.quantity then
        o.status := 'open';
        perform tell(o.stream, 'offer.restocked', o.id, 'returned', offer_body(o));
    end if;
    o := sell_out(o);  -- the waitlist may have got what was free besides
    update offers set taken = o.taken, confirmed = o.confirmed, version = o.version,
                      status = o.status, last_movement = o.last_movement, quantity = o.quantity
        where id = o.id;
    return o;
end $$;

-- expire: end up to p_limit orders of one offer whose time is over, oldest first. Postgres' clock
-- alone decides (R8). Returns the orders; none when nothing was due. The plans are pinned as in
-- admit: without statistics each batch looked at every order of the offer, and at the whole table.
create or replace function expire(p_offer text, p_limit integer) returns setof order_rows
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    o offers;
    ids text[];
begin
    select * into o from offers where id = p_offer for update;
    select array_agg(d.id) into ids
      from (select r.id from orders r
             where r.offer = coalesce(o.parent, o.id) and r.bucket = o.bucket
               and r.status = 'reserved'
               and r.expires_at <= (select clock_timestamp())  -- else no index condition
             order by r.expires_at limit p_limit) d;
    if ids is not null then
        perform give_back(o, ids, 'expired', 'expired');
        return query select r.* from order_rows r where r.id = any (ids);
    end if;
end $$;

-- cancel: end one order. p_by_host may also end a confirmed one. The word is ok, not_found or
-- conflict; `now` is the order as it is then.
create or replace function cancel(
    p_order text, p_by_host boolean, p_reason text, p_who text default null, out word text,
    out now order_rows
) language plpgsql as $$
declare
    offer_id text;
    was text;
    o offers;
begin
    select home_of(r.offer, r.bucket) into offer_id from orders r where r.id = p_order;
    if not found then
        word := 'not_found';
        return;
    end if;
    select * into o from offers where id = offer_id for update;
    select r.status into was from orders r where r.id = p_order for update;
    word := 'conflict';
    if was = 'reserved' or (p_by_host and was = 'confirmed') then
        perform act(p_who);
        perform give_back(o, array[p_order], 'cancelled', coalesce(p_reason, 'cancelled'));
        word := 'ok';
    end if;
    select * into now from order_rows r where r.id = p_order;
end $$;

-- pay: a host marks one reserved order as paid by hand: there is a payment of it then, whose money
-- has moved. Pay wins while the row is reserved, also past its deadline (R8). The word is ok, again (it
-- is confirmed already), not_found or conflict; `now` is the order then.
create or replace function pay(p_order text, p_who text default null, out word text, out now order_rows)
language plpgsql as $$
declare
    offer_id text;
    r orders;
    by_hand text;
begin
    select home_of(x.offer, x.bucket) into offer_id from orders x where x.id = p_order;
    if not found then
        word := 'not_found';
        return;
    end if;
    perform 1 from offers where id = offer_id for update;
    select * into r from orders x where x.id = p_order for update;
    word := case when r.status in ('confirmed', 'shipped') then 'again'
                 when r.status <> 'reserved' then 'conflict' else 'ok' end;
    if word = 'ok' then
        perform act(p_who, 'by hand');
        perform confirm_order(r, true);
        -- Nobody else can know of this payment yet: no lock of one is waited for here.
        by_hand := 'pay_' || substr(p_order, 4);
        insert into payments (id, shop, stream, viewer, provider, ref, amount_minor, currency, state,
                              authorised_minor, captured_minor, settled_at)
            select by_hand, s.shop, r.stream, r.viewer, 'manual', by_hand, live_amount(r), p.currency,
                   'captured', live_amount(r), live_amount(r), clock_timestamp()
              from offers o join streams s on s.id = o.stream join products p on p.id = o.product
             where o.id = r.offer;
        insert into payment_orders (payment, order_id, amount_minor, outcome)
            values (by_hand, p_order, live_amount(r), 'paid');
    end if;
    select * into now from order_rows x where x.id = p_order;
end $$;

-- fence: from now on refuse every rank up to p_rank of this offer that has no row yet (R1). Lifting
-- the fence only ever raises it. Tells whether that stands: not under another epoch, which a rebuild
-- brings, unless the offer is closed, where nothing is admitted nor rebuilt any more.
create or replace function fence(p_offer text, p_epoch integer, p_rank bigint) returns boolean
language sql as $$
    with fenced as (
        update offers set fence_rank = greatest(fence_rank, p_rank)
         where id = p_offer and (epoch = p_epoch or status = 'closed') returning 1)
    select exists (select 1 from fenced);
$$;

-- raise_epoch: begin a rebuild of the gate (R2); admissions of older epochs are refused from here.
create or replace function raise_epoch(p_offer text, p_gate_epoch integer) returns integer
language sql as $$
    update offers set epoch = greatest(epoch, p_gate_epoch) + 1 where id = p_offer
    returning epoch;
$$;
