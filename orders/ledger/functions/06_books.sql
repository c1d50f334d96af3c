-- What happened to an offer's units, and what the gate must know of it.

-- orders_in: the orders of an offer, or of one of its buckets.
create or replace function orders_in(p_offer text) returns setof orders language sql stable as $$
    select r.* from offers o join orders r
        on r.offer = coalesce(o.parent, o.id) and (r.bucket = o.bucket or o.buckets > 1)
     where o.id = p_offer;
$$;

-- ledger: every movement of an offer's units, whatever table keeps it. An admission is its order's
-- row; everything else is a movement. `quantity_change` and `taken_change` sum to the offer's
-- counters. Sort by at, n, rank: all three are given under the offer's lock. Of an offer with buckets:
-- its own movements of quantity and what came back to any of them, but not what they lent each other,
-- which a bucket's own ledger has.
create or replace function ledger(p_offer text) returns table (
    at timestamptz, n bigint, rank bigint, what text, quantity_change integer,
    taken_change integer, why text, order_id text, viewer text, epoch integer
) language sql stable as $$
    select r.reserved_at, null::bigint, r.rank, 'admission', 0, r.qty, 'bought', r.id, r.viewer,
           r.epoch
      from orders_in(p_offer) r
    union all
    select m.at, m.n, null, m.kind,
           case when m.kind in ('quantity', 'lend', 'borrow') then m.units else 0 end,
           case m.kind when 'release' then -m.units else 0 end,
           m.reason, m.order_id, null, m.epoch
      from offers x join movements m on m.offer = x.id
     where x.id = p_offer or (x.parent = p_offer and m.kind = 'release');
$$;

-- held_rows: the orders whose holds a gate must have, when it was read at this movement and rank,
-- before we look. Live now, or ended by a movement that it did not have; and admitted under a rank
-- that it had given by then, be it that the hold was adopted, and had another rank, meanwhile. An
-- order that a movement brings to the gate (`take`) is not there before that movement.
create or replace function held_rows(
    p_offer text, p_movement bigint, p_rank bigint, p_unwritten text[]
) returns setof orders language sql stable as $$
    select r.* from orders_in(p_offer) r
     where (r.rank <= p_rank or r.id = any (p_unwritten))
       and (r.status in ('reserved', 'confirmed', 'shipped')
            or r.id in (select m.order_id from movements m
                         where m.offer = p_offer and m.n > p_movement and m.kind = 'release'))
       and not exists (select 1 from movements m
                        where m.offer = p_offer and m.n > p_movement and m.kind = 'take'
                          and m.order_id = r.id);
$$;
