-- What sales sum to: see migration 0013 for what is counted.

-- fold_sales: add up to p_limit steps to the sums and drop them; tells how many. In one
-- transaction, so that whoever reads both in one statement misses none and counts none twice. One
-- at a time: who finds another at it leaves it to him, and waits for nobody.
create or replace function fold_sales(p_limit integer) returns integer language plpgsql
set enable_seqscan = on
as $$
declare
    folded integer;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('livecart.fold_sales', 0)) then
        return 0;
    end if;
    with gone as (
        delete from sales_steps where ctid = any (array(select ctid from sales_steps limit p_limit))
        returning *),
    added as (
        insert into sales as s (offer, minute, orders, ended, unpaid, units, captured_minor,
                                refunded_minor, unpaid_minor)
            select g.offer, g.minute, sum(g.orders), sum(g.ended), sum(g.unpaid), sum(g.units),
                   sum(g.captured_minor), sum(g.refunded_minor), sum(g.unpaid_minor)
              from gone g group by g.offer, g.minute
            on conflict (offer, minute) do update
                set orders = s.orders + excluded.orders, ended = s.ended + excluded.ended,
                    unpaid = s.unpaid + excluded.unpaid, units = s.units + excluded.units,
                    captured_minor = s.captured_minor + excluded.captured_minor,
                    refunded_minor = s.refunded_minor + excluded.refunded_minor,
                    unpaid_minor = s.unpaid_minor + excluded.unpaid_minor)
    select count(*) into folded from gone;
    return folded;
end $$;

-- sales_of: the sums of a stream by (product, currency), by (minute, currency), and by currency
-- alone: which of these a row is, its nulls tell.
create or replace function sales_of(p_stream text) returns table (
    product text, minute timestamptz, currency text, orders bigint, ended bigint, unpaid bigint,
    units bigint, captured_minor bigint, refunded_minor bigint, unpaid_minor bigint
) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    return query
        with of_offers as materialized (
            select o.product, p.currency, x.minute, x.orders, x.ended, x.unpaid, x.units,
                   x.captured_minor, x.refunded_minor, x.unpaid_minor
              from offers o join products p on p.id = o.product
             cross join lateral (select s.* from sales s where s.offer = o.id
                                 union all
                                 select t.* from sales_steps t where t.offer = o.id) x
             where o.stream = p_stream and o.parent is null),
        of_products as materialized (
            select y.product, y.currency, sum(y.orders)::bigint as orders,
                   sum(y.ended)::bigint as ended, sum(y.unpaid)::bigint as unpaid,
                   sum(y.units)::bigint as units, sum(y.captured_minor)::bigint as captured_minor,
                   sum(y.refunded_minor)::bigint as refunded_minor,
                   sum(y.unpaid_minor)::bigint as unpaid_minor
              from of_offers y group by y.product, y.currency)
        select y.product, null::timestamptz, y.currency, y.orders, y.ended, y.unpaid, y.units,
               y.captured_minor, y.refunded_minor, y.unpaid_minor
          from of_products y
        union all
        select null, y.minute, y.currency, sum(y.orders), sum(y.ended), sum(y.unpaid),
               sum(y.units)::bigint, sum(y.captured_minor)::bigint, sum(y.refunded_minor)::bigint,
               sum(y.unpaid_minor)::bigint
          from of_offers y group by y.minute, y.currency
        union all
        select null, null, y.currency, sum(y.orders)::bigint, sum(y.ended)::bigint,
               sum(y.unpaid)::bigint, sum(y.units)::bigint, sum(y.captured_minor)::bigint,
               sum(y.refunded_minor)::bigint, sum(y.unpaid_minor)::bigint
          from of_products y group by y.currency
         order by 3, 2 desc, 1;
end $$;
