-- Outbound webhooks: who wants to hear of what, what is to be told, and how the telling went.
-- Lock order among these: deliveries by n, then webhooks; both after everything else.

create table webhooks (
    id           text primary key,  -- `wh_…`
    shop         text not null,
    url          text not null,
    events       text[] not null,   -- names, and `order.*`, `offer.*`, `stream.*`
    of_orders    boolean not null,  -- any of these may be of an order,
    of_facts     boolean not null,  -- or of an offer or a stream
    description  text,
    enabled      boolean not null default true,
    disabled_at  timestamptz,
    disabled_why text check (disabled_why in ('host', 'gone', 'failing')),
    created_at   timestamptz not null default clock_timestamp(),
    delivered_at timestamptz,       -- its last success, to some seconds
    failures     integer not null default 0,  -- in a row; of those at one time the first counts
    failing_since timestamptz,      -- no success since then
    resume_at    timestamptz,       -- it fails: left alone until then
    deleted_at   timestamptz        -- its deliveries go bit by bit, then it goes itself
);
create index webhooks_shop on webhooks (shop, id) where deleted_at is null;
-- What every admission asks, and mostly finds nothing in.
create index webhooks_of_orders on webhooks (shop) where enabled and of_orders;

-- What it is signed with, sealed with a key that this database has not.
create table hook_secrets (
    webhook text not null references webhooks (id) on delete cascade,
    n       integer not null,
    sealed  bytea not null,
    until   timestamptz,            -- null: the present one; else it was replaced, and signs until then
    primary key (webhook, n)
);

-- What happened, one row a statement of its cause and in the same transaction; only where the shop
-- has an endpoint. An identity is no commit order: rows are taken and deleted, never passed by.
create table hook_outbox (
    n        bigint generated always as identity primary key,
    shop     text not null,
    stream   text not null,
    at       timestamptz not null default clock_timestamp(),
    orders   text[],                -- three parallel arrays: which orders,
    versions integer[],             -- as of which version,
    names    text[],                -- and what happened to each: reserved, confirmed, ...
    fact     bigint,                -- or the fact of the stream
    due_at   timestamptz not null default clock_timestamp()  -- later: it could not be read once
);

-- What one endpoint is told, once an event: the body is frozen here.
create table hook_deliveries (
    n          bigint generated always as identity primary key,
    webhook    text not null references webhooks (id),
    event      text not null,       -- the stable id
    type       text not null,
    body       text not null,
    state      text not null default 'pending' check (state in ('pending', 'delivered', 'dead')),
    created_at timestamptz not null default clock_timestamp(),
    first_at   timestamptz not null default clock_timestamp(),  -- its tries began, or did again
    due_at     timestamptz not null default clock_timestamp(),  -- of a claimed one: until when it is
    attempts   integer not null default 0,  -- ever begun; the number of one fences its outcome
    tries      integer not null default 0,  -- of these, since first_at
    ended_at   timestamptz,
    constraint hook_deliveries_once unique (webhook, event)
) with (fillfactor = 80);
create index hook_deliveries_due on hook_deliveries (webhook, due_at) where state = 'pending';
create index hook_deliveries_of on hook_deliveries (webhook, n);
create index hook_deliveries_ended on hook_deliveries (ended_at) where state <> 'pending';

create table hook_attempts (
    delivery    bigint not null references hook_deliveries (n) on delete cascade,
    attempt     integer not null,
    at          timestamptz not null default clock_timestamp(),  -- when its outcome was known
    duration_ms integer not null,
    status      integer,            -- of HTTP; null: there was no answer
    error       text,               -- why it is no success
    answer      text,               -- how the answer began
    primary key (delivery, attempt)
);
