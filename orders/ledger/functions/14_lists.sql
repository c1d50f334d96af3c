-- Lists of orders for hosts, newest first: by time of admission, then by id, from a given order on.
-- The plans are pinned as in admit: what is read is known beforehand, whatever statistics say.

-- newest_in: the newest orders on these shelves of these streams, or of these offers. All bounds
-- are given: infinite ones and the empty prefix do not filter.
create or replace function newest_in(
    p_streams text[], p_offers text[], p_shelves smallint[], p_prefix text, p_since timestamptz,
    p_until timestamptz, p_before timestamptz, p_before_id text, p_limit integer
) returns table (id text, at timestamptz) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
begin
    if p_offers is not null then
        return query
            select f.id, f.reserved_at
              from unnest(p_offers) o (id) cross join unnest(p_shelves) x (shelf)
             cross join lateral (
                   select r.id, r.reserved_at from orders r
                    where r.offer = o.id
                      and shelf(r.status, r.captured_at, r.refunded_minor, r.late_at) = x.shelf
                      and r.reserved_at >= p_since and r.reserved_at < p_until
                      and r.reserved_at <= p_before
                      and (r.reserved_at < p_before or r.id < p_before_id)
                      and starts_with(r.viewer, p_prefix)
                    order by r.reserved_at desc, r.id desc limit p_limit) f
             order by f.reserved_at desc, f.id desc limit p_limit;
    else
        return query
            select f.id, f.reserved_at
              from unnest(p_streams) s (id) cross join unnest(p_shelves) x (shelf)
             cross join lateral (
                   select r.id, r.reserved_at from orders r
                    where r.stream = s.id
                      and shelf(r.status, r.captured_at, r.refunded_minor, r.late_at) = x.shelf
                      and r.reserved_at >= p_since and r.reserved_at < p_until
                      and r.reserved_at <= p_before
                      and (r.reserved_at < p_before or r.id < p_before_id)
                      and starts_with(r.viewer, p_prefix)
                    order by r.reserved_at desc, r.id desc limit p_limit) f
             order by f.reserved_at desc, f.id desc limit p_limit;
    end if;
end $$;

-- newest_of: the same of these orders, which are few.
create or replace function newest_of(
    p_ids text[], p_shop text, p_streams text[], p_shelves smallint[], p_offers text[],
    p_since timestamptz, p_until timestamptz, p_before timestamptz, p_before_id text,
    p_limit integer
) returns table (id text) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
begin
    return query
        select r.id
          from unnest(p_ids) x (id) join orders r on r.id = x.id
         where (p_streams is null or r.stream = any (p_streams))
           and (p_shop is null or exists (select 1 from streams s
                                           where s.id = r.stream and s.shop = p_shop))
           and (p_shelves is null
                or shelf(r.status, r.captured_at, r.refunded_minor, r.late_at) = any (p_shelves))
           and (p_offers is null or r.offer = any (p_offers))
           and r.reserved_at >= p_since and r.reserved_at < p_until
           and (r.reserved_at, r.id) < (p_before, p_before_id)
         order by r.reserved_at desc, r.id desc limit p_limit;
end $$;

-- newest_for: a viewer's orders by id, as everything that viewers see of them is.
create or replace function newest_for(
    p_viewer text, p_shop text, p_streams text[], p_shelves smallint[], p_offers text[],
    p_since timestamptz, p_until timestamptz, p_sought text, p_before_id text, p_limit integer
) returns table (id text) language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
set enable_sort = off
as $$
begin
    return query
        select r.id from orders r
         where r.viewer = p_viewer and (p_before_id is null or r.id < p_before_id)
           and (p_streams is null or r.stream = any (p_streams))
           and (p_shop is null or exists (select 1 from streams s
                                           where s.id = r.stream and s.shop = p_shop))
           and (p_shelves is null
                or shelf(r.status, r.captured_at, r.refunded_minor, r.late_at) = any (p_shelves))
           and (p_offers is null or r.offer = any (p_offers))
           and r.reserved_at >= p_since and r.reserved_at < p_until
           and (p_sought is null or r.id = p_sought or starts_with(r.viewer, p_sought))
         order by r.id desc limit p_limit;
end $$;

-- sought: up to so many orders with this id, or of viewers whose id begins so. The index on viewers
-- has those side by side where the database sorts by code points (as `livecart up` makes it).
-- Elsewhere only one whole id is looked for so; null: what it is the beginning of must be looked
-- through.
create or replace function sought(p_sought text, p_limit integer) returns text[]
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    ids text[];
begin
    if exists (select 1 from orders r where r.id = p_sought) then
        return array[p_sought];
    elsif (select d.datlocprovider = 'b'
                  or d.datlocprovider = 'c' and d.datcollate in ('C', 'POSIX')
             from pg_database d where d.datname = current_database()) then
        select coalesce(array_agg(x.id), '{}') into ids
          from (select r.id from orders r
                 where r.viewer >= p_sought and r.viewer < p_sought || chr(1114111)
                 limit p_limit) x;
    end if;
    return ids;
end $$;

-- orders_page: a page of orders; null filters do not filter, but shelves are always given.
-- `p_sought` is an order's id, or how a viewer's begins: where that is at most a few thousand
-- orders, these are looked through, else all are, shelf by shelf. Streams go from those that may
-- have newer orders to those that ended first, until no other can have one for this page.
create or replace function orders_page(
    p_viewer text, p_shop text, p_streams text[], p_offer text, p_product text,
    p_shelves smallint[], p_since timestamptz, p_until timestamptz, p_sought text, p_before text,
    p_limit integer
) returns setof order_rows language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
declare
    few constant integer := 4000;
    since_at timestamptz := coalesce(p_since, '-infinity');
    until_at timestamptz := coalesce(p_until, 'infinity');
    before_at timestamptz := 'infinity';
    offer_ids text[];
    prefix text := '';
    many bigint := few + 1;
    ids text[];
    ats timestamptz[];
    part record;
begin
    if p_offer is not null or p_product is not null then
        select coalesce(array_agg(o.id), '{}') into offer_ids
          from offers o
         where o.parent is null
           and o.id = any (case when p_offer is not null then array[p_offer]
                                else array(select x.id from offers x where x.product = p_product)
                           end)
           and (p_product is null or o.product = p_product)
           and (p_streams is null or o.stream = any (p_streams))
           and (p_shop is null or exists (select 1 from streams s
                                           where s.id = o.stream and s.shop = p_shop));
    end if;
    if p_viewer is not null then
        ids := array(select f.id from newest_for(p_viewer, p_shop, p_streams, p_shelves, offer_ids,
                                                 since_at, until_at, p_sought, p_before,
                                                 p_limit) f);
        return query select r.* from order_rows r where r.id = any (ids) order by r.id desc;
        return;
    end if;

    if p_before is not null then
        select r.reserved_at into before_at from orders r where r.id = p_before;
        if not found then
            return;
        end if;
    end if;
    if p_sought is not null then
        ids := sought(p_sought, few + 1);
        many := coalesce(cardinality(ids), few + 1);
        prefix := p_sought;
    end if;
    if many <= few then
        ids := array(select f.id from newest_of(ids, p_shop, p_streams, p_shelves, offer_ids,
                                                since_at, until_at, before_at, p_before,
                                                p_limit) f);
    elsif offer_ids is not null then
        ids := array(select f.id from newest_in(null, offer_ids, p_shelves, prefix, since_at,
                                                until_at, before_at, coalesce(p_before, ''),
                                                p_limit) f);
    else
        ids := '{}';
        ats := '{}';
        for part in
            select array_agg(y.id) as streams, max(y.upto) as upto
              from (select x.id, x.upto,
                           (row_number() over (order by x.upto desc, x.id desc) - 1) / 8 as place
                      from (select s.id,
                                   coalesce(s.ended_at + interval '1 minute', 'infinity') as upto
                              from streams s
                             where s.status <> 'scheduled'
                               and s.id in (select a.id from streams a
                                             where p_streams is not null and a.id = any (p_streams)
                                               and (p_shop is null or a.shop = p_shop)
                                            union all
                                            select b.id from streams b
                                             where p_streams is null and b.shop = p_shop
                                            union all
                                            select c.id from streams c
                                             where p_streams is null and p_shop is null)
                               and s.created_at <= least(until_at, before_at) + interval '1 minute'
                           ) x where x.upto >= since_at) y
             group by y.place order by y.place loop
            exit when cardinality(ids) >= p_limit and ats[p_limit] > part.upto;
            select coalesce(array_agg(z.id), '{}'), coalesce(array_agg(z.at), '{}') into ids, ats
              from (select u.id, u.at
                      from (select * from unnest(ids, ats) k (id, at)
                            union all
                            select n.id, n.at
                              from newest_in(part.streams, null, p_shelves, prefix, since_at,
                                             until_at, before_at, coalesce(p_before, ''),
                                             p_limit) n) u
                     order by u.at desc, u.id desc limit p_limit) z;
        end loop;
    end if;
    return query
        select r.* from unnest(ids) with ordinality k (id, place) join order_rows r on r.id = k.id
         order by k.place;
end $$;
