-- An order as everybody outside asks for it: ids and milliseconds, with what its offer knows.
create view order_rows as
    select r.id, r.stream, r.offer, o.product, r.viewer, r.key, r.qty, r.unit_price_minor,
           p.currency, r.status, r.rank, r.version,
           (extract(epoch from r.reserved_at) * 1000)::bigint as reserved_at,
           (extract(epoch from r.expires_at) * 1000)::bigint as expires_at,
           (extract(epoch from r.confirmed_at) * 1000)::bigint as confirmed_at
      from orders r join offers o on o.id = r.offer join products p on p.id = o.product;

-- These answer with the orders themselves now; `create or replace` cannot change what is returned.
drop function if exists expire(text, integer);
drop function if exists cancel(text, boolean, text);
drop function if exists pay(text);

-- A movement may name an order that changed without giving units back, so that its viewer is told.
alter table movements drop constraint movements_kind_check;
alter table movements add constraint movements_kind_check
    check (kind in ('release', 'quantity', 'state', 'order'));
