-- The tables of livecart. Ids are the wire's; times are timestamptz on this server's clock.
-- Lock order everywhere: streams, then offers by id, then orders by id, then fact_heads.

create table streams (
    id           text primary key,
    shop         text not null,
    title        text not null,
    status       text not null default 'scheduled' check (status in ('scheduled', 'live', 'ended')),
    starts_at    timestamptz,
    started_at   timestamptz,
    ended_at     timestamptz,
    playback_url text,
    language     text,
    created_at   timestamptz not null default clock_timestamp()
);

create table products (
    id          text primary key,
    shop        text not null,
    sku         text not null,
    title       text not null,
    price_minor bigint not null check (price_minor >= 0),
    currency    text not null,
    description text,
    image_url   text,
    gtin        text,
    created_at  timestamptz not null default clock_timestamp()
);
create index products_shop on products (shop, id);

create table offers (
    id            text primary key,
    stream        text not null references streams (id),
    product       text not null references products (id),
    price_minor   bigint not null check (price_minor >= 0),
    quantity      integer not null check (quantity between 0 and 1000000),
    taken         integer not null default 0,    -- units of reserved, confirmed and shipped orders
    confirmed     integer not null default 0,    -- of these, units of confirmed and shipped ones
    per_viewer    integer not null check (per_viewer >= 1),
    status        text not null default 'draft'
                  check (status in ('draft', 'scheduled', 'open', 'paused', 'sold_out', 'closed')),
    opens_at      timestamptz,
    closes_at     timestamptz,
    hold_s        integer not null check (hold_s > 0),
    payment       text not null check (payment in ('required', 'none')),
    keyword       text,
    epoch         integer not null default 1,    -- raised by each rebuild of the gate (R2)
    fence_rank    bigint not null default 0,     -- ranks up to here are no longer admitted (R1)
    last_movement bigint not null default 0,     -- highest movements.n of this offer (R4)
    gate_movement bigint not null default 0,     -- the gate knows this much; kept once closed
    version       bigint not null default 1,     -- grows with each change of this row
    announced     boolean not null default false,  -- it left its draft: not its shop's alone
    closed_at     timestamptz,
    created_at    timestamptz not null default clock_timestamp(),
    constraint offers_never_oversold check (0 <= taken and taken <= quantity),
    constraint offers_confirmed_is_taken check (0 <= confirmed and confirmed <= taken)
) with (fillfactor = 10);  -- one hot row a sale: leave its page room for HOT updates
create index offers_stream on offers (stream, id);
create index offers_active on offers (id) where status not in ('draft', 'closed');
create index offers_closed on offers (closed_at) where closed_at is not null;
create index offers_untold on offers (id) where status = 'closed' and gate_movement < last_movement;

create table orders (
    id               text not null,
    offer            text not null,  -- no foreign key: admit() alone inserts, under the offer's lock
    stream           text not null,
    viewer           text not null,
    key              text not null,
    qty              integer not null check (qty > 0),
    unit_price_minor bigint not null,
    status           text not null check (status in
                     ('reserved', 'confirmed', 'shipped', 'expired', 'cancelled', 'refunded')),
    rank             bigint not null check (rank > 0),
    version          integer not null default 1,
    reserved_at      timestamptz not null,
    expires_at       timestamptz,
    confirmed_at     timestamptz,
    ended_reason     text,
    constraint orders_pkey primary key (id),
    constraint orders_key_binds_once unique (offer, viewer, key),
    constraint orders_rank_is_unique unique (offer, rank)
) with (fillfactor = 80, autovacuum_analyze_scale_factor = 0.02);
create index orders_viewer on orders (viewer, id);
create index orders_due on orders (expires_at) where status = 'reserved';

-- What the gate in Redis must learn of an offer, in commit order: units given back, quantity
-- changed, state changed. n is contiguous per offer and given under its row lock, so that a
-- watermark in Redis says exactly what was applied (R4, R7).
create table movements (
    offer     text not null,                      -- no foreign key, as for orders
    n         bigint not null,
    kind      text not null check (kind in ('release', 'quantity', 'state')),
    units     integer not null,                   -- what `left` changes by
    order_id  text,
    reason    text not null,
    epoch     integer not null,
    at        timestamptz not null default clock_timestamp(),
    primary key (offer, n)
);

-- Main events, committed with their cause. n is contiguous per stream in commit order; the log
-- appends them in that order, each once (R9).
create table fact_heads (
    stream    text primary key references streams (id),
    n         bigint not null,
    published bigint not null default 0
);
create index fact_heads_lag on fact_heads (stream) where published < n;
create table facts (
    stream  text not null references streams (id),
    n       bigint not null,
    kind    text not null,
    subject text not null,
    reason  text,
    body    jsonb,
    at      timestamptz not null default clock_timestamp(),
    primary key (stream, n)
);

create table pins (
    id         text primary key,
    stream     text not null references streams (id),
    product    text not null references products (id),
    offer      text references offers (id),
    media_at   bigint,
    n          bigint generated always as identity,
    unpinned_at timestamptz
);
create index pins_shown on pins (stream, n) where unpinned_at is null;

create table restocks (
    offer text not null references offers (id),
    key   text not null,
    units integer not null,
    at    timestamptz not null default clock_timestamp(),
    primary key (offer, key)
);

create table standings (
    stream      text not null references streams (id),
    viewer      text not null,
    banned      boolean not null default false,
    muted_until timestamptz,
    primary key (stream, viewer)
);

-- When the leading keeper was last heard of (R10).
create table keeper_beat (
    one boolean primary key check (one),
    at  timestamptz not null
);
