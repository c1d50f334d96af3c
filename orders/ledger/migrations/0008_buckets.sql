-- Hot offers: one whose units are spread over k buckets, each with a row, a lock and a gate of its
-- own. A bucket is a row of `offers` that names the offer it is a part of; whoever reads offers for
-- people leaves those out. The offer's own row keeps what hosts set and sums what its buckets have.
alter table offers
    add column buckets smallint not null default 1 check (buckets between 1 and 64),
    add column parent  text references offers (id),  -- of a bucket: the offer
    add column bucket  smallint not null default 0,  -- from 1; 0: not a bucket
    add constraint offers_bucket_has_parent check ((parent is null) = (bucket = 0)),
    add constraint offers_bucket_is_whole check (parent is null or buckets = 1),
    add constraint offers_draw_has_one_bucket check (mode = 'sale' or buckets = 1);
create unique index offers_parts on offers (parent, bucket) where parent is not null;
create index offers_spread on offers (closed_at) where buckets > 1;

-- Which bucket of its offer an order or an entry is in; 0 where the offer has none. `offer` stays
-- what everybody outside calls it.
alter table orders add column bucket smallint not null default 0;
alter table waitlist add column bucket smallint not null default 0;

create or replace view order_rows as
    select r.id, r.stream, r.offer, o.product, r.viewer, r.key, r.qty, r.unit_price_minor,
           p.currency, r.status, r.rank, r.version,
           (extract(epoch from r.reserved_at) * 1000)::bigint as reserved_at,
           (extract(epoch from r.expires_at) * 1000)::bigint as expires_at,
           (extract(epoch from r.confirmed_at) * 1000)::bigint as confirmed_at,
           r.bundle,
           case when r.status = 'reserved' and o.extends > 0
                then o.extends - r.extended end as extends_left,
           r.bucket
      from orders r join offers o on o.id = r.offer join products p on p.id = o.product;

-- Units that went from one bucket to another, once each; both ends have a movement with this id.
create table transfers (
    id       text primary key,
    lender   text not null,
    borrower text not null,
    units    integer not null check (units > 0),
    epoch    integer not null,  -- of the lender's gate, which set them aside
    at       timestamptz not null default clock_timestamp()
);
create trigger transfers_stay before update or delete or truncate on transfers
    for each statement execute function refuse_rewriting();

alter table movements drop constraint movements_kind_check;
alter table movements add constraint movements_kind_check
    check (kind in ('release', 'quantity', 'state', 'order', 'take', 'lend', 'borrow'));

drop trigger orders_stay_as_admitted on orders;
create trigger orders_stay_as_admitted
    before update of id, offer, bucket, viewer, key, qty, rank, reserved_at, epoch on orders
    for each statement execute function refuse_rewriting();

-- The ledger has one more column; and `create or replace` would leave the create_offer with fewer
-- arguments standing beside the new one.
drop view if exists ledger;
drop function if exists create_offer(text, text, text, bigint, integer, integer, timestamptz,
                                     timestamptz, integer, text, text, integer, integer, integer,
                                     text, text);
