-- name: facts_after
-- Main events of a stream that the log does not have yet, in commit order.
select n, kind, subject, reason, body, ms(at) as at
  from facts where stream = $1 and n > $2 order by n limit 500

-- name: facts_published
-- How far the log is known to be.
select published from fact_heads where stream = $1

-- name: mark_published
-- Note how far the log is; never backwards.
update fact_heads set published = greatest(published, $2) where stream = $1 and published < $2

-- name: lagging_streams
-- Streams whose facts wait to be published.
select stream from fact_heads where published < n order by stream limit 200
