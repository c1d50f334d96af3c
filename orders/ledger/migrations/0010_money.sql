-- Orders and money (R13): what an order may become, who made it so, and what was paid for it.
-- Lock order with these: payments by id, streams, offers by id, orders by id, fact_heads.

-- Which state may follow which; `orders/states.py` has the same pairs.
create table order_transitions (
    was text not null,
    now text not null,
    primary key (was, now)
);
insert into order_transitions (was, now) values
    ('reserved', 'confirmed'), ('reserved', 'expired'), ('reserved', 'cancelled'),
    ('confirmed', 'shipped'), ('confirmed', 'cancelled'), ('confirmed', 'refunded'),
    ('shipped', 'refunded');
create trigger order_transitions_stay before update or delete or truncate on order_transitions
    for each statement execute function refuse_rewriting();

alter table orders
    add column captured_at    timestamptz,  -- its money has moved; null: not yet, or none is asked
    add column refunded_minor bigint check (refunded_minor between 0 and qty * unit_price_minor),
    add column shipped_at     timestamptz,
    add column carrier        text,
    add column tracking       text,
    add column late_at        timestamptz,  -- it was not shipped in time
    add column replaces       text;         -- the expired order whose payment came too late
create index orders_unshipped on orders (confirmed_at) where status = 'confirmed' and late_at is null;

alter table offers
    add column ship_within_h integer not null default 72 check (ship_within_h between 1 and 8760);

create or replace view order_rows as
    select r.id, r.stream, r.offer, o.product, r.viewer, r.key, r.qty, r.unit_price_minor,
           p.currency, r.status, r.rank, r.version,
           (extract(epoch from r.reserved_at) * 1000)::bigint as reserved_at,
           (extract(epoch from r.expires_at) * 1000)::bigint as expires_at,
           (extract(epoch from r.confirmed_at) * 1000)::bigint as confirmed_at,
           r.bundle,
           case when r.status = 'reserved' and o.extends > 0
                then o.extends - r.extended end as extends_left,
           r.bucket,
           (extract(epoch from r.captured_at) * 1000)::bigint as captured_at,
           nullif(r.refunded_minor, 0) as refunded_minor,
           (extract(epoch from r.shipped_at) * 1000)::bigint as shipped_at,
           r.carrier, r.tracking,
           (extract(epoch from r.late_at) * 1000)::bigint as late_at,
           r.replaces
      from orders r join offers o on o.id = r.offer join products p on p.id = o.product;

-- The timeline: what changed an order after its admission, which its own row tells of. One entry a
-- version; `was` and `now` are alike where the state stayed.
create table order_log (
    order_id text not null,     -- no foreign key, as for movements
    version  integer not null,  -- of the order, from this on
    at       timestamptz not null default clock_timestamp(),
    was      text not null,
    now      text not null,
    what     text not null,     -- confirmed, expired, cancelled, refunded, shipped, captured, ...
    who      text not null,     -- a token's `sub`, or `clock`, `payment`, `livecart`
    why      text,
    primary key (order_id, version)
);
create trigger order_log_stays before update or delete or truncate on order_log
    for each statement execute function refuse_rewriting();

-- What somebody pays for orders, once or more often. The figures are the provider's and only grow.
create table payments (
    id               text primary key,  -- `pay_…`; what the provider keeps beside its own
    shop             text not null,
    stream           text not null,
    viewer           text not null,
    provider         text not null,
    ref              text,              -- the provider's id; null: we have no answer yet
    amount_minor     bigint not null check (amount_minor >= 0),
    currency         text not null,
    state            text not null default 'new'
                     check (state in ('new', 'open', 'authorised', 'captured', 'failed', 'voided')),
    authorised_minor bigint not null default 0 check (authorised_minor >= 0),
    captured_minor   bigint not null default 0 check (captured_minor >= 0),
    refunded_minor   bigint not null default 0 check (refunded_minor >= 0),
    disputed         boolean not null default false,
    odd              text,              -- why nothing is sold for it: amount, currency
    created_at       timestamptz not null default clock_timestamp(),
    settled_at       timestamptz,       -- its orders were confirmed, or refused, by it
    unique (provider, ref)
);
create index payments_shop on payments (shop, id);

-- Which orders it pays, and what came of that: paid; late (it came after the end: a new order is
-- tried for); replaced (which that order stands for now); refused (the money goes back).
create table payment_orders (
    payment      text not null references payments (id),
    order_id     text not null,
    amount_minor bigint not null,
    outcome      text check (outcome in ('paid', 'late', 'replaced', 'refused')),
    primary key (payment, order_id)
);
create index payment_orders_order on payment_orders (order_id);
create unique index payment_orders_paid_once on payment_orders (order_id) where outcome = 'paid';

-- Words of providers, each once: written in the transaction of their effect.
create table payment_events (
    provider text not null,
    event    text not null,
    payment  text,
    kind     text not null,
    at       timestamptz not null default clock_timestamp(),
    primary key (provider, event)
);

-- What we ask a provider to do with money: committed before it is asked, under one key for ever. One
-- a payment at a time, so that the next is reckoned from what the last made.
create table payment_moves (
    id           text primary key,  -- `mv_…`, the key
    payment      text not null references payments (id),
    kind         text not null check (kind in ('capture', 'void', 'refund')),
    amount_minor bigint not null check (amount_minor >= 0),
    state        text not null default 'open' check (state in ('open', 'done', 'failed')),
    error        text,
    created_at   timestamptz not null default clock_timestamp(),
    tried_at     timestamptz,       -- who tries holds it for a while
    tries        integer not null default 0,
    ended_at     timestamptz
);
create unique index payment_moves_open on payment_moves (payment) where state = 'open';
create index payment_moves_payment on payment_moves (payment, created_at);

-- Payments whose money may not be where their orders say: the outbox. Written with its cause.
create table payments_due (
    n       bigint generated always as identity primary key,
    payment text not null,
    due_at  timestamptz not null default clock_timestamp()
);
create index payments_due_at on payments_due (due_at);
create index payments_due_payment on payments_due (payment);

-- What a host gave back, once a key.
create table refunds (
    order_id     text not null,
    key          text not null,
    amount_minor bigint not null check (amount_minor > 0),
    restock      boolean not null,
    at           timestamptz not null default clock_timestamp(),
    primary key (order_id, key)
);

-- Requests to send an order back.
create table returns (
    id         text primary key,  -- `ret_…`
    order_id   text not null,
    viewer     text not null,
    reason     text not null,
    photo_url  text,
    state      text not null default 'asked' check (state in ('asked', 'accepted', 'refused')),
    note       text,              -- the shop's answer
    at         timestamptz not null default clock_timestamp(),
    decided_at timestamptz,
    decided_by text
);
create unique index returns_open on returns (order_id) where state = 'asked';
create index returns_order on returns (order_id);

-- Where orders go to, and who is asked about them: sealed with a key that this database has not.
create table contacts (
    order_id  text primary key,
    shop      text not null,
    sealed    bytea,       -- null: erased
    at        timestamptz not null default clock_timestamp(),
    erased_at timestamptz
);

-- Every change of an order's state is one of the table's, and is in the timeline; the payments
-- concerned fall due. Once a statement, whoever wrote it.
create function follow_orders() returns trigger language plpgsql
set enable_hashjoin = on
as $$
declare
    bad record;
begin
    select b.id, b.status as was, a.status as now into bad
      from before_rows b join after_rows a on a.id = b.id
     where a.status <> b.status
       and not exists (select 1 from order_transitions t where t.was = b.status and t.now = a.status)
     limit 1;
    if found then
        raise exception 'order % cannot go from % to %', bad.id, bad.was, bad.now
            using errcode = 'check_violation', constraint = 'order_transitions';
    end if;
    insert into order_log (order_id, version, was, now, what, who, why)
        select a.id, a.version, b.status, a.status,
               case when a.status <> b.status then a.status
                    when a.captured_at is distinct from b.captured_at then 'captured'
                    when a.refunded_minor is distinct from b.refunded_minor then 'refunded_in_part'
                    when a.late_at is distinct from b.late_at then 'late'
                    when a.extended <> b.extended then 'extended'
                    when a.replaces is distinct from b.replaces then 'replaced'
                    when a.tracking is distinct from b.tracking
                         or a.carrier is distinct from b.carrier then 'tracking'
                    else 'changed' end,
               coalesce(nullif(current_setting('livecart.who', true), ''),
                        case a.status when 'expired' then 'clock' else 'livecart' end),
               coalesce(case when a.ended_reason is distinct from b.ended_reason
                             then a.ended_reason end,
                        nullif(current_setting('livecart.why', true), ''))
          from before_rows b join after_rows a on a.id = b.id
         where a.version <> b.version;
    insert into payments_due (payment)
        select distinct p.payment
          from before_rows b join after_rows a on a.id = b.id
          join payment_orders p on p.order_id = a.id
         where a.status <> b.status or a.refunded_minor is distinct from b.refunded_minor;
    return null;
end $$;
create trigger orders_followed after update on orders
    referencing old table as before_rows new table as after_rows
    for each statement execute function follow_orders();

-- `create or replace` would leave the ones with fewer arguments standing beside the new ones.
drop function if exists cancel(text, boolean, text);
drop function if exists pay(text);
drop function if exists extend(text, bigint);
drop function if exists create_offer(text, text, text, bigint, integer, integer, timestamptz,
                                     timestamptz, integer, text, text, integer, integer, integer,
                                     text, text, integer);
