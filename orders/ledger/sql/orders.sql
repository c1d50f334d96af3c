-- name: orders_by_id
-- Orders, in any order.
select * from order_rows r where r.id = any ($1::text[])

-- name: orders_by_key
-- Orders by (offer, viewer, key): three parallel arrays.
select r.*
  from unnest($1::text[], $2::text[], $3::text[]) as x (offer, viewer, key)
  join order_rows r on r.offer = x.offer and r.viewer = x.viewer and r.key = x.key

-- name: orders_of_bundles
-- The orders of each of these bundles.
select * from order_rows r where r.bundle = any ($1::text[]) order by r.bundle, r.offer

-- name: orders_of_viewers
-- The newest $3 orders of each of these viewers in a stream.
select r.*
  from unnest($2::text[]) as x (viewer)
 cross join lateral (select * from order_rows where viewer = x.viewer and stream = $1
                      order by id desc limit $3) r
 order by r.id desc

-- name: order_shop
-- The shop whose order this is, and the viewer.
select s.shop, r.viewer, r.offer, r.stream
  from orders r join streams s on s.id = r.stream where r.id = $1
