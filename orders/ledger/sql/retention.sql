-- name: old_facts
-- Facts that the log had long ago, of streams that ended then. Those of a draw are its proof, and the
-- last one of a stream says how far it came.
select count(*)
  from streams s join fact_heads h on h.stream = s.id and h.published >= h.n
  join facts f on f.stream = s.id and f.n < h.n
 where s.status = 'ended' and s.ended_at < clock_timestamp() - make_interval(days => $1)
   and f.at < clock_timestamp() - make_interval(days => $1)
   and not exists (select 1 from draws d where d.offer = f.subject)

-- name: prune_facts
with old as (
    select f.stream, f.n
      from streams s join fact_heads h on h.stream = s.id and h.published >= h.n
      join facts f on f.stream = s.id and f.n < h.n
     where s.status = 'ended' and s.ended_at < clock_timestamp() - make_interval(days => $1)
       and f.at < clock_timestamp() - make_interval(days => $1)
       and not exists (select 1 from draws d where d.offer = f.subject)
     limit $2),
gone as (
    delete from facts f using old where f.stream = old.stream and f.n = old.n returning 1)
select count(*) from gone

-- name: old_payment_events
-- Names of words that a provider said and that had their effect in the same transaction. They keep a
-- repeated one from being heard twice, and providers repeat for days.
select count(*) from payment_events where at < clock_timestamp() - make_interval(days => $1)

-- name: prune_payment_events
with old as (
    select provider, event from payment_events
     where at < clock_timestamp() - make_interval(days => $1) limit $2),
gone as (
    delete from payment_events e using old
     where e.provider = old.provider and e.event = old.event returning 1)
select count(*) from gone
