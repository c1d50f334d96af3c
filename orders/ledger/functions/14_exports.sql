-- Orders for exports: walked offer by offer in the order of their ranks, which never change, a
-- chunk a statement. So no snapshot is held between two chunks: under one that is, no version of a
-- hot offer's row can be pruned, and the sale slows down for as long as a client takes to read.

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

-- walk_rows: look at no more than p_limit orders of each of these offers, in the order of their
-- ranks, after `past` and up to `upto`. Back come those that are wanted, as order_rows has them,
-- but its offer and product are looked up once an offer and not once an order. There is always a
-- row, be it without an order: of it are `scanned`, how many were looked at, and `last_rank`, how
-- far.
create or replace function walk_rows(
    p_offers text[], p_past bigint[], p_upto bigint[], p_limit integer, p_shelves smallint[],
    p_viewer text, p_since timestamptz, p_until timestamptz, p_sought text
) returns table (
    scanned bigint, last_rank bigint, id text, stream text, offer text, product text, viewer text,
    key text, qty integer, unit_price_minor bigint, currency text, status text, rank bigint,
    version integer, reserved_at bigint, expires_at bigint, confirmed_at bigint, bundle text,
    extends_left smallint, bucket smallint, captured_at bigint, refunded_minor bigint,
    shipped_at bigint, carrier text, tracking text, late_at bigint, replaces text, tax_bp integer
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
        with scan as materialized (
            select f.product, f.currency, f.tax_bp, f.extends, r.*,
                   is_wanted(r.id, r.viewer, r.reserved_at,
                             shelf(r.status, r.captured_at, r.refunded_minor, r.late_at),
                             p_shelves, p_viewer, p_since, p_until, p_sought) as wanted
              from (select u.offer, u.past, u.upto, o.product, p.currency, p.tax_bp, o.extends
                      from unnest(p_offers, p_past, p_upto) u (offer, past, upto)
                      join offers o on o.id = u.offer join products p on p.id = o.product
                    offset 0) f
             cross join lateral (select x.id, x.stream, x.offer, x.viewer, x.key, x.qty,
                                        x.unit_price_minor, x.status, x.rank, x.version,
                                        x.reserved_at, x.expires_at, x.confirmed_at, x.bundle,
                                        x.extended, x.bucket, x.captured_at, x.refunded_minor,
                                        x.shipped_at, x.carrier, x.tracking, x.late_at, x.replaces
                                   from orders x
                                  where x.offer = f.offer and x.rank > f.past and x.rank <= f.upto
                                  order by x.rank limit p_limit) r)
        select n.scanned, n.last_rank, s.id, s.stream, s.offer, s.product, s.viewer, s.key, s.qty,
               s.unit_price_minor, s.currency, s.status, s.rank, s.version,
               (extract(epoch from s.reserved_at) * 1000)::bigint,
               (extract(epoch from s.expires_at) * 1000)::bigint,
               (extract(epoch from s.confirmed_at) * 1000)::bigint,
               s.bundle,
               case when s.status = 'reserved' and s.extends > 0
                    then s.extends - s.extended end,
               s.bucket,
               (extract(epoch from s.captured_at) * 1000)::bigint,
               nullif(s.refunded_minor, 0),
               (extract(epoch from s.shipped_at) * 1000)::bigint,
               s.carrier, s.tracking,
               (extract(epoch from s.late_at) * 1000)::bigint,
               s.replaces, s.tax_bp
          from (select count(*) as scanned, max(y.rank) as last_rank from scan y) n
          left join scan s on s.wanted
         order by s.offer, s.rank;
end $$;

-- walk_lines: what a spreadsheet says of such orders; times in seconds. The orders of a bundle
-- stand together, in the place of the one whose offer comes first of them (of those among p_among,
-- where that is not null). `sealed` is for who can open it. There is always a row, here too.
create or replace function walk_lines(
    p_offers text[], p_past bigint[], p_upto bigint[], p_limit integer, p_shelves smallint[],
    p_viewer text, p_since timestamptz, p_until timestamptz, p_sought text, p_among text[]
) returns table (
    scanned bigint, last_rank bigint, id text, offer text, bundle text, viewer text, qty integer,
    unit_price_minor bigint, status text, reserved_s bigint, expires_s bigint, captured_s bigint,
    shipped_s bigint, ended_s bigint, refunded_minor bigint, carrier text, tracking text,
    provider text, ref text, payment text, invoice text, sealed bytea
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
        with scan as materialized (
            select r.*,
                   case when r.bundle is not null
                        then not exists (select 1 from orders b
                                          where b.bundle = r.bundle and b.offer < r.offer
                                            and (p_among is null or b.offer = any (p_among)))
                        else is_wanted(r.id, r.viewer, r.reserved_at,
                                       shelf(r.status, r.captured_at, r.refunded_minor, r.late_at),
                                       p_shelves, p_viewer, p_since, p_until, p_sought)
                   end as taken
              from unnest(p_offers, p_past, p_upto) f (offer, past, upto)
             cross join lateral (select x.rank, x.id, x.offer, x.bundle, x.viewer, x.qty,
                                        x.unit_price_minor, x.status, x.reserved_at, x.expires_at,
                                        x.confirmed_at, x.captured_at, x.shipped_at,
                                        x.refunded_minor, x.carrier, x.tracking, x.late_at
                                   from orders x
                                  where x.offer = f.offer and x.rank > f.past and x.rank <= f.upto
                                  order by x.rank limit p_limit) r),
        line as (
            select s.offer as at_offer, s.rank as at_rank, s.id, s.offer, s.bundle, s.viewer, s.qty,
                   s.unit_price_minor, s.status, s.reserved_at, s.expires_at, s.confirmed_at,
                   s.captured_at, s.shipped_at, s.refunded_minor, s.carrier, s.tracking
              from scan s where s.taken and s.bundle is null
            union all
            select s.offer, s.rank, b.id, b.offer, b.bundle, b.viewer, b.qty, b.unit_price_minor,
                   b.status, b.reserved_at, b.expires_at, b.confirmed_at, b.captured_at,
                   b.shipped_at, b.refunded_minor, b.carrier, b.tracking
              from scan s join orders b on b.bundle = s.bundle
             where s.taken and s.bundle is not null
               and (p_among is null or b.offer = any (p_among))
               and is_wanted(b.id, b.viewer, b.reserved_at,
                             shelf(b.status, b.captured_at, b.refunded_minor, b.late_at),
                             p_shelves, p_viewer, p_since, p_until, p_sought))
        select n.scanned, n.last_rank, r.id, r.offer, r.bundle, r.viewer, r.qty, r.unit_price_minor,
               r.status, floor(date_part('epoch', r.reserved_at))::bigint,
               floor(date_part('epoch', r.expires_at))::bigint,
               floor(date_part('epoch', r.captured_at))::bigint,
               floor(date_part('epoch', r.shipped_at))::bigint,
               case when r.status in ('expired', 'cancelled') then
                   (select floor(date_part('epoch', l.at))::bigint from order_log l
                     where l.order_id = r.id and l.now = r.status and l.was <> l.now) end,
               coalesce(r.refunded_minor, 0), r.carrier, r.tracking, p.provider, p.ref, p.id,
               case when r.captured_at is not null then
                   (select invoice_number(i) from invoices i
                     where i.order_id = r.id and i.part = 0) end,
               (select c.sealed from contacts c where c.order_id = r.id)
          from (select count(*) as scanned, max(y.rank) as last_rank from scan y) n
          left join line r on true
          left join payment_orders y
                 on r.confirmed_at is not null and y.order_id = r.id and y.outcome = 'paid'
          left join payments p on p.id = y.payment
         order by r.at_offer, r.at_rank, r.offer;
end $$;
