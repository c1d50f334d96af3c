-- admit_bundle: make one order for each line of a viewer's bundle, or none at all. Where an offer has
-- buckets, its line names the viewer's.
--
-- One call in autocommit, as admit (R3): all offers are locked by id before anything is read or told,
-- so neither two bundles nor a bundle and a stream's end can wait for each other. The lines are
-- parallel arrays, each offer once: several lines of one offer were summed before they were held.
-- Existing keys come first: all lines of one bundle, and no others, are `again`; any other row with
-- this key makes it `key_reused`. Then a line is refused by the first of closed, epoch, not_live,
-- not_open, fenced, limit_reached, sold_out, and one refused line refuses all.
--
-- Back, a row a line in the order given: its word (ok; again; key_reused; or why this line is
-- refused, null when it is not), the offer's figures, whether facts wait to be published, and the
-- order that has this key, if there is one now.
create or replace function admit_bundle(
    p_bundle text, p_viewer text, p_key text, p_offers text[], p_epochs integer[], p_ids text[],
    p_qtys integer[], p_ranks bigint[]
) returns table (
    word text, left_units integer, offer_version bigint, told boolean, now order_rows
) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
declare
    o offers;
    n integer := cardinality(p_offers);
    locked integer;
    now_at timestamptz;
    bound integer;      -- lines whose key has a row
    known text;         -- the bundle that these rows are of
    whole boolean;      -- they are this bundle, line by line
    refused text[];
    have bigint;
    was text;
    of_offers text[];  -- as the wire calls them
begin
    perform 1 from offers where id = any (p_offers) order by id for update;
    get diagnostics locked = row_count;
    if locked <> n then
        raise exception 'admit_bundle: % offers, % of them there', n, locked
            using errcode = 'no_data_found';
    end if;
    now_at := clock_timestamp();
    select array_agg(coalesce(l.parent, l.id) order by x.place) into of_offers
      from unnest(p_offers) with ordinality as x (id, place) join offers l on l.id = x.id;

    select count(*), min(r.bundle),
           count(*) filter (where r.qty = x.qty) = n and count(r.bundle) = n
               and min(r.bundle) = max(r.bundle)
      into bound, known, whole
      from unnest(of_offers, p_qtys) as x (offer, qty)
      join orders r on r.offer = x.offer and r.viewer = p_viewer and r.key = p_key;
    if bound > 0 then
        whole := whole and n = (select count(*) from orders r where r.bundle = known);
    else
        for i in 1 .. n loop
            select * into o from offers where id = p_offers[i];
            select sum(r.qty) into have from orders r
             where r.offer = of_offers[i] and r.viewer = p_viewer
               and r.status in ('reserved', 'confirmed', 'shipped');
            refused[i] := coalesce(
                shut(o, p_epochs[i], now_at),
                case when p_ranks[i] <= o.fence_rank then 'fenced'
                     when coalesce(have, 0) + p_qtys[i] > o.per_viewer then 'limit_reached'
                     when o.taken + p_qtys[i] > o.quantity then 'sold_out' end);
        end loop;
    end if;

    for i in 1 .. n loop
        select * into o from offers where id = p_offers[i];
        told := false;
        now := null;
        if bound > 0 then
            word := case when whole then 'again' else 'key_reused' end;
        elsif num_nonnulls(variadic refused) > 0 then
            word := refused[i];
        else
            insert into orders (id, offer, bucket, stream, viewer, key, qty, unit_price_minor,
                                status, rank, reserved_at, expires_at, confirmed_at, bundle, epoch)
                values (p_ids[i], of_offers[i], o.bucket, o.stream, p_viewer, p_key, p_qtys[i],
                        o.price_minor,
                        case o.payment when 'none' then 'confirmed' else 'reserved' end, p_ranks[i],
                        now_at,
                        case o.payment when 'none' then null
                                       else now_at + make_interval(secs => o.hold_s) end,
                        case o.payment when 'none' then now_at end, p_bundle, o.epoch);
            if o.waiting > 0 then
                o := drop_served(o, array[p_viewer], array[p_key]);
            end if;
            was := o.status;
            o := take_units(o, p_qtys[i]);
            told := o.status <> was;
            word := 'ok';
        end if;
        left_units := o.quantity - o.taken;
        offer_version := o.version;
        select * into now from order_rows r
         where r.offer = of_offers[i] and r.viewer = p_viewer and r.key = p_key;
        return next;
    end loop;
end $$;
