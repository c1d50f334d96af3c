-- name: stream_by_key
-- Whose key it is, by its hash; $2: the key before will do.
select stream from ingests where key_hash = $1 or ($2 and key_before = $1)

-- name: due_ingests
-- Streams that nobody came back to; the index has those alone that anybody left.
select stream from ingests where ends_at <= clock_timestamp() order by ends_at limit 200
