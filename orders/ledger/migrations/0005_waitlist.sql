-- Who waits for units that come back (R12). An entry is live until it is served, dropped or left; one
-- that was left stays as a mark that its key was withdrawn, until its viewer joins anew or the offer
-- closes.
create table waitlist (
    offer     text not null,   -- no foreign key, as for orders: join_waitlist() alone inserts
    viewer    text not null,
    key       text not null,   -- of the order that it becomes
    qty       integer not null check (qty > 0),
    rank      bigint not null check (rank > 0),  -- from the gate's counter, as an order's is
    joined_at timestamptz not null,
    left_at   timestamptz,
    primary key (offer, viewer)
);
create unique index waitlist_turns on waitlist (offer, rank) where left_at is null;

alter table offers
    add column waiting         integer not null default 0 check (waiting >= 0),  -- live entries
    add column waitlist_max    integer not null default 10000
                               check (waitlist_max between 0 and 1000000),
    add column waitlist_hold_s integer not null default 60 check (waitlist_hold_s > 0);

-- An order that the waitlist got is brought to the gate by a movement of its own.
alter table movements drop constraint movements_kind_check;
alter table movements add constraint movements_kind_check
    check (kind in ('release', 'quantity', 'state', 'order', 'take'));
create index movements_takes on movements (offer, n) where kind = 'take';

-- `create or replace` would leave the ones with fewer arguments standing beside the new ones.
drop function if exists move(text, bigint, integer, text, integer, text, text);
drop function if exists create_offer(text, text, text, bigint, integer, integer, timestamptz,
                                     timestamptz, integer, text, text, integer);
