-- Orders for exports: walked offer by offer in the order of their ranks, which never change, a chunk a
-- statement. So no snapshot is held between two chunks: under one that is, no version of a hot
-- offer's row can be pruned, and the sale slows down for as long as a client takes to read.

-- offers_to_walk: the offers that have orders, with how many (at least), and the highest rank: what
-- is admitted later is not in this export. Null filters do not filter.
create or replace function offers_to_walk(
    p_shop text, p_streams text[], p_offer text, p_product text
) returns table (
    offer text, stream text, shop text, product text, sku text, title text, currency text,
    tax_bp integer, payment text, orders bigint, upto bigint
) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
begin
    return query
        select o.id, o.stream, s.shop, o.product, p.sku, p.title, p.currency, p.tax_bp, o.payment,
               coalesce((select sum(x.orders) from sales x where x.offer = o.id), 0)
                   + coalesce((select sum(x.orders) from sales_steps x where x.offer = o.id), 0),
               top.rank
          from offers o join streams s on s.id = o.stream join products p on p.id = o.product
         cross join lateral (select r.rank from orders r where r.offer = o.id
                              order by r.rank desc limit 1) top
         where o.parent is null
           and (p_shop is null or s.shop = p_shop)
           and (p_streams is null or o.stream = any (p_streams))
           and (p_offer is null or o.id = p_offer)
           and (p_product is null or o.product = p_product)
         order by o.id;
end $$;

-- is_wanted: whether an order passes these filters; null ones do not filter.
create or replace function is_wanted(
    r_id text, r_viewer text, r_at timestamptz, r_shelf smallint, p_shelves smallint[],
    p_viewer text, p_since timestamptz, p_until timestamptz, p_sought text
) returns boolean language sql immutable parallel safe
return (p_shelves is null or r_shelf = any (p_shelves))
   and (p_viewer is null or r_viewer = p_viewer)
   and (p_since is null or r_at >= p_since)
   and (p_until is null or r_at < p_until)
   and (p_sought is null or r_id = p_sought or starts_with(r_viewer, p_sought));

-- walk_orders: look at no more than p_limit orders of each of these offers, in the order of their
-- ranks, after `past` and up to `upto`. Back come those that are wanted; with p_bundled, in place of
-- the orders of a bundle, the one that leads it: whose offer comes first of them (of those among
-- p_among, where that is not null), wanted or not. There is always a row, be it without an order: of
-- it are `scanned`, how many were looked at, and `last_rank`, how far.
create or replace function walk_orders(
    p_offers text[], p_past bigint[], p_upto bigint[], p_limit integer, p_shelves smallint[],
    p_viewer text, p_since timestamptz, p_until timestamptz, p_sought text, p_bundled boolean,
    p_among text[]
) returns table (scanned bigint, last_rank bigint, id text, bundle text) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
begin
    return query
        with scan as materialized (
            select r.id, r.offer, r.rank, r.bundle,
                   case when p_bundled and r.bundle is not null
                        then not exists (select 1 from orders b
                                          where b.bundle = r.bundle and b.offer < r.offer
                                            and (p_among is null or b.offer = any (p_among)))
                        else is_wanted(r.id, r.viewer, r.reserved_at,
                                       shelf(r.status, r.captured_at, r.refunded_minor, r.late_at),
                                       p_shelves, p_viewer, p_since, p_until, p_sought)
                   end as taken
              from unnest(p_offers, p_past, p_upto) f (offer, past, upto)
             cross join lateral (select x.id, x.offer, x.rank, x.bundle, x.viewer, x.reserved_at,
                                        x.status, x.captured_at, x.refunded_minor, x.late_at
                                   from orders x
                                  where x.offer = f.offer and x.rank > f.past and x.rank <= f.upto
                                  order by x.rank limit p_limit) r)
        select n.scanned, n.last_rank, s.id, s.bundle
          from (select count(*) as scanned, max(y.rank) as last_rank from scan y) n
          left join scan s on s.taken
         order by s.offer, s.rank;
end $$;

-- order_lines: what a spreadsheet says of these orders, and of those of these bundles that are wanted
-- (and are among p_among); times in seconds. `sealed` is for who can open it.
create or replace function order_lines(
    p_ids text[], p_bundles text[], p_shelves smallint[], p_viewer text, p_since timestamptz,
    p_until timestamptz, p_sought text, p_among text[]
) returns table (
    id text, offer text, bundle text, viewer text, qty integer, unit_price_minor bigint,
    status text, reserved_s bigint, expires_s bigint, captured_s bigint, shipped_s bigint,
    ended_s bigint, refunded_minor bigint, carrier text, tracking text, provider text, ref text,
    payment text, invoice text, sealed bytea
) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
begin
    return query
        with named as (
            select x.id from unnest(p_ids) x (id)
            union all
            select b.id from orders b
             where b.bundle = any (p_bundles) and (p_among is null or b.offer = any (p_among))
               and is_wanted(b.id, b.viewer, b.reserved_at,
                             shelf(b.status, b.captured_at, b.refunded_minor, b.late_at),
                             p_shelves, p_viewer, p_since, p_until, p_sought))
        select r.id, r.offer, r.bundle, r.viewer, r.qty, r.unit_price_minor, r.status,
               floor(date_part('epoch', r.reserved_at))::bigint,
               floor(date_part('epoch', r.expires_at))::bigint,
               floor(date_part('epoch', r.captured_at))::bigint,
               floor(date_part('epoch', r.shipped_at))::bigint,
               case when r.status in ('expired', 'cancelled') then
                   (select floor(date_part('epoch', l.at))::bigint from order_log l
                     where l.order_id = r.id and l.now = r.status and l.was <> l.now) end,
               coalesce(r.refunded_minor, 0), r.carrier, r.tracking, p.provider, p.ref, p.id,
               (select invoice_number(i) from invoices i where i.order_id = r.id and i.part = 0),
               (select c.sealed from contacts c where c.order_id = r.id)
          from named n
          join orders r on r.id = n.id
          left join payment_orders y
                 on r.confirmed_at is not null and y.order_id = r.id and y.outcome = 'paid'
          left join payments p on p.id = y.payment;
end $$;
