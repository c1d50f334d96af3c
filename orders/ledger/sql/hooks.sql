-- name: outbox
-- What waits to be made deliveries of: the oldest first, in no promised order.
select n, shop, stream, ms(at) as at, orders, versions, names, fact
  from hook_outbox where due_at <= clock_timestamp() order by n limit $1

-- name: put_off
-- A row that cannot be read now must not be in the way of the others.
update hook_outbox set due_at = clock_timestamp() + make_interval(secs => $2) where n = $1

-- name: facts_by_n
-- Facts, by stream and number: two parallel arrays.
select f.stream, f.n, f.kind, f.subject, f.reason, f.body, ms(f.at) as at
  from unnest($1::text[], $2::bigint[]) as x (stream, n)
  join facts f on f.stream = x.stream and f.n = x.n

-- name: waiting
-- Endpoints that may be sent to and have something due, and how often each failed in a row.
select w.id, w.shop, w.failures
  from hook_waiting() x join webhooks w on w.id = x.id
 where w.enabled
   and (w.resume_at is null or w.resume_at <= clock_timestamp())
   and exists (select 1 from hook_deliveries d where d.webhook = w.id and d.state = 'pending'
                  and d.due_at <= clock_timestamp())

-- name: targets
-- Where endpoints are, and what signs for them now, the newest first.
select w.id, w.url,
       array(select s.sealed from hook_secrets s
              where s.webhook = w.id and (s.until is null or s.until > clock_timestamp())
              order by s.n desc) as sealed,
       ms(clock_timestamp()) as now_ms
  from webhooks w where w.id = any ($1::text[])

-- name: backlog
-- How old the oldest outbox row is, how long the delivery that waits longest could have been sent,
-- and how many endpoints are off that their host did not switch off.
select coalesce((select extract(epoch from clock_timestamp() - o.at) from hook_outbox o
                  order by o.n limit 1), 0)::float8 as outbox_s,
       coalesce((select max(extract(epoch from clock_timestamp() - d.due_at))
                   from hook_waiting() x join webhooks w on w.id = x.id and w.enabled
                  cross join lateral (select y.due_at from hook_deliveries y
                                       where y.webhook = w.id and y.state = 'pending'
                                         and y.due_at <= clock_timestamp()
                                       order by y.due_at limit 1) d), 0)::float8 as delivery_s,
       (select count(*) from webhooks w where not w.enabled and w.deleted_at is null
           and w.disabled_why <> 'host') as disabled

-- name: webhook
-- One endpoint.
select id, shop, url, events, description, enabled, ms(created_at) as created_at,
       ms(disabled_at) as disabled_at, disabled_why, ms(failing_since) as failing_since,
       ms(delivered_at) as delivered_at
  from webhooks where id = $1 and deleted_at is null

-- name: webhooks_page
-- Endpoints, newest first; $1 shop or null, $2 before id, $3 limit.
select id, shop, url, events, description, enabled, ms(created_at) as created_at,
       ms(disabled_at) as disabled_at, disabled_why, ms(failing_since) as failing_since,
       ms(delivered_at) as delivered_at
  from webhooks
 where deleted_at is null and ($1::text is null or shop = $1) and ($2::text is null or id < $2)
 order by id desc limit $3

-- name: test_delivery
-- A delivery that nothing but the host's wish is the cause of.
insert into hook_deliveries (webhook, event, type, body)
select w.id, $2, $3, $4 from webhooks w where w.id = $1 and w.enabled
returning n

-- name: deliveries_page
-- An endpoint's deliveries, newest first, each with its last attempt; $1 endpoint, $2 state or null,
-- $3 one n or null, $4 before n, $5 limit.
select d.n, d.event, d.type, d.state, ms(d.created_at) as created_at, d.attempts,
       case when d.state = 'pending' then ms(d.due_at) end as due_at, d.body,
       a.attempt, ms(a.at) as at, a.duration_ms, a.status, a.error, a.answer
  from hook_deliveries d
  left join lateral (select * from hook_attempts x where x.delivery = d.n
                      order by x.attempt desc limit 1) a on true
 where d.webhook = $1 and ($2::text is null or d.state = $2) and ($3::bigint is null or d.n = $3)
   and ($4::bigint is null or d.n < $4)
 order by d.n desc limit $5

-- name: attempts
-- How a delivery went, the newest first; the last hundred.
select attempt, ms(at) as at, duration_ms, status, error, answer
  from hook_attempts where delivery = $1 order by attempt desc limit 100
