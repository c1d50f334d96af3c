-- A deadline that may be moved so many times, and orders that were bought together.
alter table offers add column extends smallint not null default 0 check (extends between 0 and 10);
alter table orders
    add column extended smallint not null default 0,  -- how often its deadline was moved
    add column bundle   text;                         -- the same in orders that were bought together
create index orders_bundle on orders (bundle) where bundle is not null;

create or replace view order_rows as
    select r.id, r.stream, r.offer, o.product, r.viewer, r.key, r.qty, r.unit_price_minor,
           p.currency, r.status, r.rank, r.version,
           (extract(epoch from r.reserved_at) * 1000)::bigint as reserved_at,
           (extract(epoch from r.expires_at) * 1000)::bigint as expires_at,
           (extract(epoch from r.confirmed_at) * 1000)::bigint as confirmed_at,
           r.bundle,
           case when r.status = 'reserved' and o.extends > 0
                then o.extends - r.extended end as extends_left
      from orders r join offers o on o.id = r.offer join products p on p.id = o.product;

-- `create or replace` would leave the one without `extends` standing beside the new one.
drop function if exists create_offer(text, text, text, bigint, integer, integer, timestamptz,
                                     timestamptz, integer, text, text);
