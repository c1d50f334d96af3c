-- name: offers_by_id
-- Offers with what the gate must know of their stream.
select o.id, o.stream, s.shop, o.product, o.price_minor, p.currency, o.quantity, o.taken,
       o.confirmed, o.per_viewer, o.status, s.status as stream_status, o.hold_s, o.payment, o.epoch,
       o.version, o.last_movement, ms(o.opens_at) as opens_at, ms(o.closes_at) as closes_at,
       o.keyword, o.keyword_mode, o.ship_within_h, o.announced, o.extends, o.waiting, o.waitlist_max, o.waitlist_hold_s, o.mode,
       o.seed_hash, o.seed, o.eligibility, o.buckets, o.parent, p.tax_bp,
       coalesce((select x.buckets from offers x where x.id = o.parent), 1) as step
  from offers o join streams s on s.id = o.stream join products p on p.id = o.product
 where o.id = any ($1::text[])
 order by o.id

-- name: offers_of_stream
-- All offers of a stream, newest first.
select o.id, o.stream, s.shop, o.product, o.price_minor, p.currency, o.quantity, o.taken,
       o.confirmed, o.per_viewer, o.status, s.status as stream_status, o.hold_s, o.payment, o.epoch,
       o.version, o.last_movement, ms(o.opens_at) as opens_at, ms(o.closes_at) as closes_at,
       o.keyword, o.keyword_mode, o.ship_within_h, o.announced, o.extends, o.waiting, o.waitlist_max, o.waitlist_hold_s, o.mode,
       o.seed_hash, o.seed, o.eligibility, o.buckets, o.parent, p.tax_bp,
       coalesce((select x.buckets from offers x where x.id = o.parent), 1) as step
  from offers o join streams s on s.id = o.stream join products p on p.id = o.product
 where o.stream = $1 and o.parent is null
 order by o.id desc

-- name: active_offers
-- What the keeper compares with the gate: every offer that the gate decides about, those closed so
-- lately that their holds may not be resolved yet, and those closed of which the gate was not told.
select id, epoch, last_movement, status = 'closed' as closed,
       status = 'closed' and gate_movement < last_movement as untold
  from offers
 where buckets = 1  -- of one that has more, each of them is looked after, and itself has no gate
   and (status not in ('draft', 'closed')
        or closed_at > (select clock_timestamp()) - interval '10 minutes'
        or (status = 'closed' and gate_movement < last_movement))
 order by id

-- name: due_offers
-- Offers whose time to open or to close comes within $1 seconds, and in how many ms; first come,
-- first served.
select id, closes, greatest(0, ceil(extract(epoch from due - clock_timestamp()) * 1000))::int
  from (select id,
               coalesce(closes_at <= clock_timestamp(), false) or status <> 'scheduled' as closes,
               case when status <> 'scheduled' or closes_at <= clock_timestamp() then closes_at
                    else opens_at end as due
          from offers
         where status not in ('draft', 'closed') and parent is null) next
 where due <= clock_timestamp() + make_interval(secs => $1)
 order by due, id
 limit 200

-- name: due_order_offers
-- Offers that have reserved orders past their deadline, and by how much the oldest is late.
select home_of(offer, bucket),
       (extract(epoch from clock_timestamp() - min(expires_at)) * 1000)::bigint as late_ms
  from (select offer, bucket, expires_at from orders
         where status = 'reserved' and expires_at <= (select clock_timestamp())
         order by expires_at limit 5000) due
 group by 1 order by 1

-- name: gate_told
-- Note up to which movement the gate was told of a closed offer, once: not each round anew.
update offers set gate_movement = $2 where id = $1 and gate_movement < $2

-- name: movements_after
-- What the gate has not applied yet, in order; of one that brings an order, what its hold must say.
select m.n, m.kind, m.units, m.order_id,
       (select array[r.viewer, r.key, r.qty::text, r.rank::text] from orders r
         where m.kind = 'take' and r.id = m.order_id) as brings
  from movements m where m.offer = $1 and m.n > $2 order by m.n limit 5000

-- name: rebuild_floor
-- The fence and the waitlist, inside a rebuild's REPEATABLE READ snapshot (R2): ranks go on above
-- both.
select greatest(o.fence_rank, (select max(w.rank) from waitlist w
                                where w.offer = coalesce(o.parent, o.id) and w.bucket = o.bucket))
  from offers o where o.id = $1

-- name: brought_lately
-- Orders of the waitlist, or of a draw, whose viewers may not know of them: a lost gate leaves no
-- trace of what it had not applied. Older ones are over, or were paid or extended by who knew of
-- them.
select m.order_id
  from movements m join offers o on o.id = m.offer
 where m.offer = $1 and m.kind = 'take'
   and m.at > clock_timestamp() - make_interval(secs => 60 + greatest(
           o.waitlist_hold_s, case o.mode when 'draw' then o.hold_s end))

-- name: rebuild_orders
-- Every order of an offer, terminal ones too: their keys stay bound.
select r.id, r.viewer, r.key, r.qty, r.rank,
       r.status in ('reserved', 'confirmed', 'shipped') as live
  from orders_in($1) r

-- name: free_in_buckets
-- The free units of each bucket of these offers, unless they are closed, as of one moment.
select parent, id, quantity - taken from offers
 where parent = any ($1::text[]) and status <> 'closed' order by id

-- name: apart_buckets
-- Offers whose own row is behind what their buckets have, of those that still sell, or whose
-- orders may still end.
select o.id from offers o
 cross join lateral (select sum(b.taken) as taken, sum(b.confirmed) as confirmed,
                            sum(b.waiting) as waiting from offers b where b.parent = o.id) b
 where o.buckets > 1 and o.status <> 'draft'
   and (o.closed_at is null or o.closed_at > (select clock_timestamp()) - interval '8 days')
   and (o.taken, o.confirmed, o.waiting) is distinct from (b.taken, b.confirmed, b.waiting)
   and b.taken is not null
 order by o.id

-- name: waited_for
-- Buckets where somebody waits who could be served from what all buckets have: which, how many units
-- the first of them wants, and the offer.
select b.id, w.qty, b.parent
  from offers b
 cross join lateral (select sum(x.quantity - x.taken) as free from offers x
                      where x.parent = b.parent) x
 cross join lateral (select w.qty from servable(b, x.free) w order by w.rank limit 1) w
 where b.parent is not null and b.waiting > 0 and b.status = 'open' and w.qty > b.quantity - b.taken
 order by b.id

-- name: transfers
-- Those of the transfers that were made.
select id from transfers where id = any ($1::text[])

-- name: create_offer
-- A new offer of a stream, $1 to $19 as the function has them; $20 hours to ship within, $21 a key
-- under which it is made once, $22 the digest of what was asked for. Back: a word, and its id.
select case b.word
         when 'new' then offer_created(b.id, $2, $21, $20, create_offer(
           b.id, $2, $3, $4, $5, $6, from_ms($7), from_ms($8), $9, $10, $11, $12, $13, $14, $15,
           $16, $17, $18, $19))
         else b.word end as word,
       b.id
  from bind_creation('offer', $2, $21, $22, $1) b
