-- Keys under which hosts made things, so that a call whose answer was lost may be repeated.
create table creations (
    kind   text not null check (kind in ('stream', 'product', 'offer')),
    owner  text not null,  -- the shop; of an offer, its stream
    key    text not null,
    digest bytea not null,  -- SHA-256 of what was asked for
    id     text not null,  -- what was made of it
    at     timestamptz not null default clock_timestamp(),
    primary key (kind, owner, key)
);
