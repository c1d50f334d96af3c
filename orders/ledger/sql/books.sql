-- name: entries
-- The last $2 movements of an offer's units (all, when null), oldest first, with the running sums.
-- Over one batch of admissions, and over ties in general, the sums go by rank.
select at, n, rank, what, quantity_change, taken_change, why, order_id, viewer, epoch,
       quantity, taken
  from (select l.*, sum(quantity_change) over w as quantity, sum(taken_change) over w as taken,
               row_number() over w as place
          from ledger($1) l
        window w as (order by at, n nulls last, rank rows unbounded preceding)) x
 order by place desc limit $2

-- name: sums
-- An offer's counters beside what its movements and rows sum to, as of one moment.
select o.quantity, o.taken, o.confirmed, o.last_movement,
       l.quantity as quantity_moved, l.taken as taken_moved,
       r.live as taken_named, r.confirmed as confirmed_named,
       m.last as movements_last, m.many as movements_many
  from offers o
 cross join lateral (select coalesce(sum(quantity_change), 0)::bigint as quantity,
                            coalesce(sum(taken_change), 0)::bigint as taken
                       from ledger(o.id)) l
 cross join lateral (select coalesce(sum(qty) filter
                                (where status in ('reserved', 'confirmed', 'shipped')), 0)::bigint
                            as live,
                            coalesce(sum(qty) filter
                                (where status in ('confirmed', 'shipped')), 0)::bigint as confirmed
                       from orders_in(o.id)) r
 cross join lateral (select coalesce(max(n), -1) as last, count(*) as many
                       from movements where offer = o.id) m
 where o.id = $1

-- name: rank_floor
-- The highest rank that an order, the waitlist or the fence of this offer has: a gate read after this
-- has given it, or it will give it again.
select greatest(o.fence_rank,
                (select r.rank from orders r
                  where r.offer = coalesce(o.parent, o.id) and r.bucket = o.bucket
                  order by r.rank desc limit 1),
                (select max(w.rank) from waitlist w
                  where w.offer = coalesce(o.parent, o.id) and w.bucket = o.bucket))
  from offers o where o.id = $1

-- name: brought_after
-- The orders that movements after $2 bring to the gate.
select order_id from movements where offer = $1 and n > $2 and kind = 'take'

-- name: outline
-- What a gate, read before at movement $2 and rank $3 with the unwritten holds $4 (of $5 units),
-- must have in sum: the units that it must name, and the quantity that it must know.
select o.quantity - coalesce((select sum(m.units) from movements m
                               where m.offer = o.id and m.n > $2
                                 and m.kind in ('quantity', 'lend', 'borrow')), 0)::bigint
           as quantity,
       coalesce((select sum(h.qty) from held_rows(o.id, $2, $3, $4) h), 0)::bigint
           + coalesce((select sum(u.qty) from unnest($4::text[], $5::integer[]) as u (id, qty)
                        where not exists (select 1 from orders r where r.id = u.id)), 0)::bigint
           as named
  from offers o where o.id = $1

-- name: counts
-- How many rows an offer has, and what of them is live.
select count(*) filter (where status in ('reserved', 'confirmed', 'shipped')) as live,
       count(*) as keys,
       count(distinct viewer) filter (where status in ('reserved', 'confirmed', 'shipped')) as viewers
  from orders_in($1)

-- name: rows_after
-- A page of an offer's orders, by rank.
select id, viewer, key, qty, rank from orders
 where offer = (select coalesce(o.parent, o.id) from offers o where o.id = $1)
   and bucket = (select o.bucket from offers o where o.id = $1)
   and rank > $2 order by rank limit $3

-- name: rows_by_id
-- Those of the orders that are this offer's.
select id, viewer, key, qty, rank from orders
 where id = any ($2::text[])
   and (offer, bucket) = (select coalesce(o.parent, o.id), o.bucket from offers o where o.id = $1)

-- name: held_ids
-- Which of the orders $5 a gate must have holds of, read before at movement $2 and rank $3 with the
-- unwritten holds $4.
select h.id from held_rows($1, $2, $3, $4) h where h.id = any ($5::text[])

-- name: viewer_sums
-- The units of each of the viewers $5 that such a gate must have named.
select h.viewer, sum(h.qty)::bigint as qty
  from held_rows($1, $2, $3, $4) h where h.viewer = any ($5::text[]) group by h.viewer
