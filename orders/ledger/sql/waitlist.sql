-- name: entries_of
-- The live entries of these (offer, viewer): two parallel arrays.
select w.offer, o.stream, w.viewer, w.key, w.qty, w.rank,
       (select count(*) from waitlist b
         where b.offer = w.offer and b.bucket = w.bucket and b.left_at is null
           and b.rank <= w.rank) as position,
       ms(w.joined_at) as joined_at
  from unnest($1::text[], $2::text[]) as x (offer, viewer)
  join waitlist w on w.offer = x.offer and w.viewer = x.viewer and w.left_at is null
  join offers o on o.id = w.offer

-- name: entries_page
-- A page of an offer's live entries, first come first. $2 viewer (null: all), $3 after rank,
-- $4 limit.
select w.offer, o.stream, w.viewer, w.key, w.qty, w.rank, w.position, ms(w.joined_at) as joined_at
  from (select *, row_number() over (partition by bucket order by rank) as position
          from waitlist where offer = $1 and left_at is null) w
  join offers o on o.id = w.offer
 where ($2::text is null or w.viewer = $2) and w.rank > $3
 order by w.rank limit $4
