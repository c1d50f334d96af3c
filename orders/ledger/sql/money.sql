-- name: give_up
-- A payment that the provider would not begin.
update payments set state = 'failed' where id = $1 and state = 'new'

-- name: note_event
-- A word of a provider that concerns no payment of ours.
insert into payment_events (provider, event, kind) values ($1, $2, $3) on conflict do nothing

-- name: due_payments
-- Payments that fell due, the oldest first.
select payment from payments_due where due_at <= (select clock_timestamp())
 group by payment order by min(due_at) limit $1

-- name: stuck_payments
-- How many payments are due whose provider refused a move, or was asked several times in vain.
select count(distinct d.payment)::integer as payments
  from payments_due d
 where exists (select 1 from payment_moves m
                where m.payment = d.payment
                  and (m.state = 'failed' or m.state = 'open' and m.tries > 3))

-- name: kept_for_nothing
-- A row, if a payment is authorised and none of its orders lives by it or may be bought anew for it.
select 1 from payments p
 where p.id = $1 and p.state = 'authorised'
   and not exists (select 1 from payment_orders y join orders x on x.id = y.order_id
                    where y.payment = p.id
                      and (y.outcome = 'late' or y.outcome = 'paid' and live_amount(x) > 0))

-- name: payments_by_id
-- Payments with the orders that they are of.
select p.id, p.shop, p.stream, p.viewer, p.provider, p.ref, p.amount_minor, p.currency, p.state,
       p.authorised_minor, p.captured_minor, p.refunded_minor, p.disputed, p.odd,
       ms(p.created_at) as created_at, ms(p.settled_at) as settled_at,
       array(select y.order_id from payment_orders y where y.payment = p.id
              order by y.order_id) as orders
  from payments p where p.id = any ($1::text[])

-- name: payments_of_order
-- The payments of an order, newest first.
select p.id, p.shop, p.stream, p.viewer, p.provider, p.ref, p.amount_minor, p.currency, p.state,
       p.authorised_minor, p.captured_minor, p.refunded_minor, p.disputed, p.odd,
       ms(p.created_at) as created_at, ms(p.settled_at) as settled_at,
       array(select y.order_id from payment_orders y where y.payment = p.id
              order by y.order_id) as orders
  from payments p
 where p.id in (select y.payment from payment_orders y where y.order_id = $1)
 order by p.created_at desc, p.id desc

-- name: payments_since
-- A page of a provider's payments that were begun since a time in ms, by id.
select p.id, p.shop, p.stream, p.viewer, p.provider, p.ref, p.amount_minor, p.currency, p.state,
       p.authorised_minor, p.captured_minor, p.refunded_minor, p.disputed, p.odd,
       ms(p.created_at) as created_at, ms(p.settled_at) as settled_at,
       array(select y.order_id from payment_orders y where y.payment = p.id
              order by y.order_id) as orders
  from payments p
 where p.provider = $1 and p.created_at >= from_ms($2) and p.id > $3
   and p.amount_minor > 0  -- of nothing no provider knows
 order by p.id limit $4

-- name: timeline
-- What happened to an order: its admission, the changes of its row, and what was said of its
-- payments, oldest first.
select at, what, who, was, now, why
  from (select ms(r.reserved_at) as at, 'reserved' as what, r.viewer as who, null as was,
               case when r.expires_at is null and l.order_id is null then r.status
                    else 'reserved' end as now, null as why, 0 as place
          from orders r
          left join lateral (select x.order_id from order_log x where x.order_id = r.id limit 1) l
               on true
         where r.id = $1
        union all
        select ms(x.at), x.what, x.who, x.was, x.now, x.why, x.version
          from order_log x where x.order_id = $1
        union all
        select ms(e.at), 'payment', e.provider, null, null, e.kind, 0
          from payment_events e
         where e.payment in (select y.payment from payment_orders y where y.order_id = $1)
        union all
        select ms(t.at), 'return_asked', t.viewer, null, null, t.reason, 0
          from returns t where t.order_id = $1
        union all
        select ms(t.decided_at), 'return_' || t.state, t.decided_by, null, null, t.note, 0
          from returns t where t.order_id = $1 and t.decided_at is not null) steps
 order by at, place

-- name: ask_return
select a.word, (a.now).id, (a.now).order_id, (a.now).viewer, (a.now).reason, (a.now).photo_url,
       (a.now).state, (a.now).note, ms((a.now).at) as at, ms((a.now).decided_at) as decided_at,
       (a.now).decided_by
  from ask_return($1, $2, $3, $4, $5) a

-- name: decide_return
select a.word, (a.now).id, (a.now).order_id, (a.now).viewer, (a.now).reason, (a.now).photo_url,
       (a.now).state, (a.now).note, ms((a.now).at) as at, ms((a.now).decided_at) as decided_at,
       (a.now).decided_by
  from decide_return($1, $2, $3, $4) a

-- name: returns_of
-- Requests to send an order back, newest first.
select id, order_id, viewer, reason, photo_url, state, note, ms(at) as at,
       ms(decided_at) as decided_at, decided_by
  from returns where order_id = $1 order by id desc

-- name: return_order
select order_id from returns where id = $1

-- name: keep_contact
insert into contacts (order_id, shop, sealed) values ($1, $2, $3)
    on conflict (order_id) do update set sealed = excluded.sealed, at = clock_timestamp(),
                                         erased_at = null

-- name: contact_of
select sealed from contacts where order_id = $1 and sealed is not null

-- name: erase_contact
update contacts set sealed = null, erased_at = clock_timestamp()
 where order_id = $1 and sealed is not null returning 1
