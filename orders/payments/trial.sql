-- The file of the trial bank: a few tables that several processes share. Amounts in minor units.

-- Whatever signs the notices.
create table if not exists settings (name text primary key, value text not null) strict;

create table if not exists payments (
    ref text primary key,
    payment text not null unique,        -- the shop's id
    amount integer not null check (amount > 0),
    currency text not null,
    state text not null check (state in ('open', 'authorised', 'captured', 'failed', 'voided')),
    capturable integer not null default 0 check (capturable >= 0),
    disputed integer not null default 0,
    at_ms integer not null
) strict;
create index if not exists payments_by_time on payments (at_ms desc, ref desc);

-- Each intention that was ever carried out: kept for ever, so that no key works twice.
create table if not exists keys (
    key text primary key,
    verb text not null,
    ref text not null,
    amount integer not null,
    currency text not null
) strict;

-- The money itself, kept apart from what the payments say of it, for the auditor.
create table if not exists moves (
    id integer primary key,
    ref text not null,
    kind text not null check (kind in ('capture', 'refund')),
    key text,                            -- null: by hand, at the bank
    amount integer not null check (amount > 0),
    state text not null check (state in ('pending', 'done', 'failed'))
) strict;
create index if not exists moves_by_ref on moves (ref);

-- What a test wants to go wrong, in this order.
create table if not exists commands (
    id integer primary key,
    verb text not null,
    what text not null,
    code text not null,
    times integer not null check (times >= 0)
) strict;

-- Calls that wait, on command, until they are let go.
create table if not exists holds (id integer primary key, verb text not null) strict;

-- Notices, sent in the order of `turn`.
create table if not exists notices (
    id integer primary key,
    event text not null,
    body blob not null,
    turn real not null,
    delivered integer not null default 0
) strict;
create index if not exists notices_by_turn on notices (turn) where delivered = 0;
