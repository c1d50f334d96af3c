-- What happened to an offer's units, and what the gate must know of it.

-- ledger: every movement of units, whatever table keeps it. An admission is its order's row;
-- everything else is a movement. `quantity_change` and `taken_change` sum to the offer's counters.
-- Sort by at, n, rank: all three are given under the offer's lock.
create or replace view ledger as
    select r.offer, r.reserved_at as at, null::bigint as n, r.rank, 'admission'::text as what,
           0 as quantity_change, r.qty as taken_change, 'bought'::text as why, r.id as order_id,
           r.viewer, r.epoch
      from orders r
    union all
    select m.offer, m.at, m.n, null, m.kind,
           case m.kind when 'quantity' then m.units else 0 end,
           case m.kind when 'release' then -m.units else 0 end,
           m.reason, m.order_id, null, m.epoch
      from movements m;

-- held_rows: the orders whose holds a gate must have, when it was read at this movement and rank,
-- before we look. Live now, or ended by a movement that it did not have; and admitted under a rank
-- that it had given by then, be it that the hold was adopted, and had another rank, meanwhile. An
-- order that a movement brings to the gate (`take`) is not there before that movement.
create or replace function held_rows(
    p_offer text, p_movement bigint, p_rank bigint, p_unwritten text[]
) returns setof orders language sql stable as $$
    select r.* from orders r
     where r.offer = p_offer
       and (r.rank <= p_rank or r.id = any (p_unwritten))
       and (r.status in ('reserved', 'confirmed', 'shipped')
            or r.id in (select m.order_id from movements m
                         where m.offer = p_offer and m.n > p_movement and m.kind = 'release'))
       and not exists (select 1 from movements m
                        where m.offer = p_offer and m.n > p_movement and m.kind = 'take'
                          and m.order_id = r.id);
$$;
