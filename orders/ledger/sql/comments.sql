-- name: vocabulary
-- What words mean in these streams: keywords of offers that buyers know of, and offers that are
-- pinned (without a keyword here).
select o.stream, o.id, o.keyword_form, o.keyword_mode
  from offers o
 where o.stream = any ($1::text[]) and o.keyword_form is not null and o.parent is null
   and o.announced
union all
select p.stream, p.offer, null, null
  from pins p
 where p.stream = any ($1::text[]) and p.unpinned_at is null and p.offer is not null

-- name: comments_page
-- A page of a stream's comments in one state, newest first. $1 stream, $2 state, $3 before id,
-- $4 limit.
select c.* from comments c
 where c.stream = $1 and c.state = $2 and ($3::text is null or c.id < $3)
 order by c.id desc limit $4

-- name: comment_by_id
-- One comment.
select c.* from comments c where c.id = $1
