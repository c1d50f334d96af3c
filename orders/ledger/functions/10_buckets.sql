-- Buckets: an offer's units spread over rows of their own, so that a hot one has no one lock that
-- all must wait for. A viewer is at home in one bucket, which his limit, his keys and his place are
-- kept in. To most functions a bucket is an offer like any, but for the name that its orders bear,
-- coalesce(parent, id); what all of them sum to, and what goes from one to another, is here.
-- Lock order: by id, as ever; an offer comes before its buckets.

-- lock_offer: lock an offer with all its buckets, and return it with their sums; without a row its id
-- is null. While it is locked nothing is taken, given back or moved in any of them. The sums are not
-- written: settle_buckets would find nothing new then, and nobody be told.
create or replace function lock_offer(p_offer text) returns offers language plpgsql as $$
declare
    o offers;
begin
    select * into o from offers where id = p_offer for update;
    if o.buckets > 1 then
        perform 1 from offers where parent = p_offer order by id for update;
        o := in_sum(o);
    end if;
    return o;
end $$;

-- in_sum: an offer with the sums over its buckets, of one moment, in its counters.
create or replace function in_sum(p_offer offers) returns offers language plpgsql as $$
declare
    o offers := p_offer;
    b record;
begin
    select count(*) as n, sum(x.taken) as taken, sum(x.confirmed) as confirmed,
           sum(x.waiting) as waiting
      into b from offers x where x.parent = o.id;
    if b.n > 0 then
        o.taken := b.taken;
        o.confirmed := b.confirmed;
        o.waiting := b.waiting;
    end if;
    return o;
end $$;

-- settle_buckets: bring an offer's own row up to date while it sells, and tell when it is sold out or
-- no longer is. Locks that row alone. Whether anything is new is `fresh`.
create or replace function settle_buckets(
    p_offer text, out fresh boolean, out told boolean, out stream text, out left_units integer,
    out offer_version bigint
) language plpgsql as $$
declare
    o offers;
    was offers;
begin
    select * into was from offers where id = p_offer for update;
    o := in_sum(was);
    fresh := (o.taken, o.confirmed, o.waiting) is distinct from
             (was.taken, was.confirmed, was.waiting);
    if o.status = 'open' and o.taken = o.quantity then
        o := sell_out(o);
    elsif o.status = 'sold_out' and o.taken < o.quantity and not wanted(o) then
        o.status := 'open';
        perform tell(o.stream, 'offer.restocked', o.id, 'returned', offer_body(o));
    end if;
    told := o.status <> was.status;
    fresh := fresh or told;
    if fresh then
        o.version := o.version + 1;
        update offers set taken = o.taken, confirmed = o.confirmed, waiting = o.waiting,
                          status = o.status, version = o.version
            where id = o.id;
    end if;
    stream := o.stream;
    left_units := o.quantity - o.taken;
    offer_version := o.version;
end $$;

-- servable: the entries of a bucket that so many free units could be given to, of the first hundred:
-- whose viewers are not banned and may have that many. As promote sees it.
create or replace function servable(p_bucket offers, p_free bigint) returns setof waitlist
language sql stable as $$
    select w.* from (select * from waitlist e
                      where e.offer = p_bucket.parent and e.bucket = p_bucket.bucket
                        and e.left_at is null order by e.rank limit 100) w
     where w.qty <= p_free
       and w.qty + coalesce((select sum(r.qty) from orders r
                              where r.offer = w.offer and r.viewer = w.viewer
                                and r.status in ('reserved', 'confirmed', 'shipped')), 0)
           <= p_bucket.per_viewer
       and not exists (select 1 from standings s where s.stream = p_bucket.stream
                          and s.viewer = w.viewer and s.banned);
$$;

-- wanted: whether what an offer has free is for somebody who waits in one of its buckets: the keeper
-- brings it there, and nobody else need hear of it.
create or replace function wanted(p_offer offers) returns boolean language sql stable as $$
    select p_offer.waiting > 0 and coalesce(p_offer.closes_at > clock_timestamp(), true)
       and exists (select 1 from offers b
                    where b.parent = p_offer.id and b.waiting > 0
                      and exists (select 1 from servable(b, p_offer.quantity - p_offer.taken)));
$$;

-- into_buckets: make the buckets of a locked offer that leaves its draft; its units are spread evenly.
-- The ranks of bucket b of k are b, b + k, b + 2k and so on, so that they are unique in the offer.
create or replace function into_buckets(p_offer offers) returns void language plpgsql as $$
begin
    insert into offers (id, stream, product, price_minor, quantity, per_viewer, status, opens_at,
                        closes_at, hold_s, payment, extends, waitlist_max, waitlist_hold_s,
                        eligibility, announced, fence_rank, parent, bucket)
        select home_of(p_offer.id, b::smallint), p_offer.stream, p_offer.product,
               p_offer.price_minor, part_of(p_offer.quantity, p_offer.buckets, b),
               p_offer.per_viewer, p_offer.status, p_offer.opens_at, p_offer.closes_at,
               p_offer.hold_s, p_offer.payment, p_offer.extends,
               (p_offer.waitlist_max + p_offer.buckets - 1) / p_offer.buckets,
               p_offer.waitlist_hold_s,
               p_offer.eligibility, true, b - p_offer.buckets, p_offer.id, b
          from generate_series(1, p_offer.buckets) b;
    insert into movements (offer, n, kind, units, reason, epoch)
        select x.id, 0, 'quantity', x.quantity, 'created', x.epoch
          from offers x where x.parent = p_offer.id;
end $$;

-- part_of: the share of part p_at of p_parts; all shares sum to p_units.
create or replace function part_of(p_units integer, p_parts integer, p_at integer) returns integer
language sql immutable strict parallel safe
return p_units / p_parts + case when p_at <= p_units % p_parts then 1 else 0 end;

-- note_in_buckets: have the buckets of a locked offer follow its state. Sold out is what an offer is,
-- never a bucket: the next unit may be borrowed.
create or replace function note_in_buckets(p_offer offers, p_reason text) returns void
language plpgsql as $$
declare
    b offers;
begin
    if p_offer.status = 'draft' then
        return;
    end if;
    if not exists (select 1 from offers where parent = p_offer.id) then
        if p_offer.status <> 'closed' then
            perform into_buckets(p_offer);
        end if;
        return;
    end if;
    for b in select * from offers where parent = p_offer.id order by id for update loop
        b.status := case p_offer.status when 'sold_out' then 'open' else p_offer.status end;
        b.opens_at := p_offer.opens_at;
        b.closes_at := p_offer.closes_at;
        if b.status = 'closed' then
            b := drop_waitlist(b);
        else
            b := promote(b, clock_timestamp());
        end if;
        perform note_state(b, p_reason);
    end loop;
end $$;

-- spread: give units to the buckets of a locked offer, or take free ones from them; each as evenly as
-- goes. The caller has made sure that so many are free. Returns the offer with its sums as they are
-- then: what appears is first for who waits (R12).
create or replace function spread(p_offer offers, p_units integer, p_reason text) returns offers
language plpgsql as $$
declare
    b offers;
    units integer := p_units;  -- still to be given or taken
    parts integer;             -- buckets that are still to come
    n integer;
    now_at timestamptz := clock_timestamp();
begin
    select count(*) into parts from offers where parent = p_offer.id;
    -- Those with the least free units first: what they lack the others have.
    for b in select * from offers where parent = p_offer.id
             order by quantity - taken, bucket loop
        n := case when units >= 0 then part_of(units, parts, 1)
                  else -least(part_of(-units, parts, 1), b.quantity - b.taken) end;
        units := units - n;
        parts := parts - 1;
        continue when n = 0;
        b.quantity := b.quantity + n;
        b := promote(b, now_at);
        b.last_movement := move(b.id, b.last_movement, b.epoch, 'quantity', n, null, p_reason,
                                now_at);
        update offers set quantity = b.quantity, version = version + 1,
                          last_movement = b.last_movement
            where id = b.id;
    end loop;
    if units <> 0 then
        raise exception 'spread: % units of % too many', units, p_offer.id;
    end if;
    return in_sum(p_offer);
end $$;

-- transfer: bring units that the lender's gate set aside, under this id, to another bucket. Both ends
-- get a movement with the id: the lender's gate drops what it set aside and has so many units less,
-- the borrower's has so many more. The word is ok, again (it was made before), or why it cannot be:
-- then nothing was moved, and what was set aside goes back.
create or replace function transfer(
    p_id text, p_lender text, p_borrower text, p_units integer, p_epoch integer, p_rank bigint
) returns text language plpgsql as $$
declare
    lender offers;
    borrower offers;
    now_at timestamptz;
begin
    perform 1 from offers where id in (p_lender, p_borrower) order by id for update;
    select * into lender from offers where id = p_lender;
    select * into borrower from offers where id = p_borrower;
    if lender.id is null or lender.parent is distinct from borrower.parent
       or lender.parent is null or lender.id = borrower.id then
        raise exception 'transfer: % and % are not buckets of one offer', p_lender, p_borrower;
    end if;
    if exists (select 1 from transfers t where t.id = p_id) then
        return 'again';
    elsif lender.epoch <> p_epoch then
        return 'epoch';
    elsif p_rank <= lender.fence_rank then
        return 'fenced';
    elsif lender.status = 'closed' or borrower.status = 'closed' then
        return 'closed';
    elsif lender.taken + p_units > lender.quantity then
        return 'sold_out';
    end if;
    now_at := clock_timestamp();
    insert into transfers (id, lender, borrower, units, epoch, at)
        values (p_id, p_lender, p_borrower, p_units, p_epoch, now_at);
    update offers set quantity = quantity - p_units, version = version + 1,
                      last_movement = move(id, last_movement, epoch, 'lend', -p_units, p_id, 'lent',
                                           now_at)
        where id = p_lender;
    borrower.quantity := borrower.quantity + p_units;
    borrower := promote(borrower, now_at);  -- first for who waits there (R12)
    update offers set quantity = borrower.quantity, version = version + 1,
                      last_movement = move(id, borrower.last_movement, epoch, 'borrow', p_units,
                                           p_id, 'borrowed', now_at)
        where id = p_borrower;
    return 'ok';
end $$;
