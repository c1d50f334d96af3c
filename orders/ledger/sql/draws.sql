-- name: draw
-- What everybody may know of a draw; nothing of it but the hash before it is held.
select o.id as offer, o.seed_hash, o.seed, ms(d.drawn_at) as drawn_at,
       coalesce(d.entries, o.waiting) as entries, d.winners, d.units,
       encode(d.threshold, 'hex') as threshold
  from offers o join draws d on d.offer = o.id where o.id = $1

-- name: draw_entries
-- A page of the entries that a draw was held among, lowest score first. $2 viewer (null: all),
-- $3 after place, $4 limit.
select place, viewer, qty, encode(score, 'hex') as score, won from draw_entries
 where offer = $1 and ($2::text is null or viewer = $2) and place > $3
 order by place limit $4
