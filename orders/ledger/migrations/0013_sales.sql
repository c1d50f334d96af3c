-- What hosts ask of their orders: lists, sums, exports, invoices.

-- The tax that a product's price has in it, in hundredths of a percent; null: none is stated. A
-- price without its tax is no price of ours: what a buyer sees is what he pays.
alter table products add column tax_bp integer check (tax_bp between 0 and 10000);

create or replace view order_rows as
    select r.id, r.stream, r.offer, o.product, r.viewer, r.key, r.qty, r.unit_price_minor,
           p.currency, r.status, r.rank, r.version,
           (extract(epoch from r.reserved_at) * 1000)::bigint as reserved_at,
           (extract(epoch from r.expires_at) * 1000)::bigint as expires_at,
           (extract(epoch from r.confirmed_at) * 1000)::bigint as confirmed_at,
           r.bundle,
           case when r.status = 'reserved' and o.extends > 0
                then o.extends - r.extended end as extends_left,
           r.bucket,
           (extract(epoch from r.captured_at) * 1000)::bigint as captured_at,
           nullif(r.refunded_minor, 0) as refunded_minor,
           (extract(epoch from r.shipped_at) * 1000)::bigint as shipped_at,
           r.carrier, r.tracking,
           (extract(epoch from r.late_at) * 1000)::bigint as late_at,
           r.replaces,
           p.tax_bp
      from orders r join offers o on o.id = r.offer join products p on p.id = o.product;

-- --- lists ---------------------------------------------------------------------------------------

-- Which shelf an order lies on: its state, and by the lowest bits whether its money has moved,
-- whether any of it was given back, and whether it was late. `orders.ledger.lists` has the same
-- numbers. A list is merged from the shelves that it wants, so that two indexes (0014) answer every
-- filter of these, newest first. Rows of one admission have one time, so an entry is a few bytes;
-- the ids of ties are sorted when they are read. The shelf comes first, since an index that begins
-- with the offer would look good to admit's questions on a table without statistics (R3), and be
-- read from end to end for each.
create function shelf(
    p_status text, p_captured_at timestamptz, p_refunded_minor bigint, p_late_at timestamptz
) returns smallint language sql immutable parallel safe
return (case p_status when 'reserved' then 0 when 'expired' then 8
        else case p_status when 'confirmed' then 16 when 'shipped' then 24 when 'cancelled' then 32
                           else 40 end
             + (p_captured_at is not null)::integer
             + 2 * (coalesce(p_refunded_minor, 0) > 0)::integer
             + 4 * (p_late_at is not null)::integer
        end)::smallint;
create index streams_shop on streams (shop);
create index offers_product on offers (product);

-- --- sums ----------------------------------------------------------------------------------------

-- What the orders of an offer that were admitted in one minute sum to now, whatever became of them
-- since. Written by `fold_sales` alone.
create table sales (
    offer          text not null,         -- no foreign key, as for orders
    minute         timestamptz not null,  -- of their admission
    orders         integer not null,      -- admitted,
    ended          integer not null,      -- of which expired, cancelled or refunded,
    unpaid         integer not null,      -- and of which live while their money has not moved
    units          bigint  not null,      -- of live ones
    captured_minor bigint  not null,      -- amount of those whose money has moved,
    refunded_minor bigint  not null,      -- what of that is due back, or was given back,
    unpaid_minor   bigint  not null,      -- and what the unpaid ones are to be paid with
    primary key (offer, minute)
);

-- By how much these figures changed, a row a statement, offer and minute. Only ever inserted by who
-- sells and deleted by who folds: no sale waits for another's sum, and no lock order knows of it.
create table sales_steps (like sales)
    with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
create index sales_steps_offer on sales_steps (offer);

create function count_new_orders() returns trigger language plpgsql as $$
begin
    insert into sales_steps (offer, minute, orders, ended, unpaid, units, captured_minor,
                             refunded_minor, unpaid_minor)
        select y.offer, date_bin('1 minute', y.reserved_at, 'epoch'), count(*),
               count(*) filter (where not y.live),
               count(*) filter (where y.live and not y.captured),
               coalesce(sum(y.qty) filter (where y.live), 0),
               coalesce(sum(y.amount) filter (where y.captured), 0),
               coalesce(sum(y.amount - y.due) filter (where y.captured), 0),
               coalesce(sum(y.due) filter (where not y.captured), 0)
          from (select x.offer, x.reserved_at, x.qty, x.captured_at is not null as captured,
                       x.status in ('reserved', 'confirmed', 'shipped') as live,
                       x.qty * x.unit_price_minor as amount,
                       case when x.status in ('reserved', 'confirmed', 'shipped')
                            then x.qty * x.unit_price_minor - coalesce(x.refunded_minor, 0)
                            else 0 end as due
                  from after_rows x) y
         group by 1, 2;
    return null;
end $$;
create trigger orders_counted after insert on orders
    referencing new table as after_rows
    for each statement execute function count_new_orders();

-- The rows as they are less the rows as they were; nothing where that makes no difference.
create function count_changed_orders() returns trigger language plpgsql as $$
begin
    insert into sales_steps (offer, minute, orders, ended, unpaid, units, captured_minor,
                             refunded_minor, unpaid_minor)
        select d.offer, d.minute, 0, d.ended, d.unpaid, d.units, d.captured_minor, d.refunded_minor,
               d.unpaid_minor
          from (select y.offer, date_bin('1 minute', y.reserved_at, 'epoch') as minute,
                       sum(y.sign * (not y.live)::integer) as ended,
                       sum(y.sign * (y.live and not y.captured)::integer) as unpaid,
                       sum(y.sign * y.qty * y.live::integer) as units,
                       sum(y.sign * y.amount * y.captured::integer)::bigint as captured_minor,
                       sum(y.sign * (y.amount - y.due) * y.captured::integer)::bigint
                           as refunded_minor,
                       sum(y.sign * y.due * (not y.captured)::integer)::bigint as unpaid_minor
                  from (select x.offer, x.reserved_at, x.sign, x.qty, x.live, x.captured, x.amount,
                               case when x.live then x.amount - x.refunded else 0 end as due
                          from (select offer, reserved_at, 1 as sign, qty,
                                       status in ('reserved', 'confirmed', 'shipped') as live,
                                       captured_at is not null as captured,
                                       qty * unit_price_minor as amount,
                                       coalesce(refunded_minor, 0) as refunded
                                  from after_rows
                                union all
                                select offer, reserved_at, -1, qty,
                                       status in ('reserved', 'confirmed', 'shipped'),
                                       captured_at is not null, qty * unit_price_minor,
                                       coalesce(refunded_minor, 0)
                                  from before_rows) x) y
                 group by 1, 2) d
         where (d.ended, d.unpaid, d.units, d.captured_minor, d.refunded_minor, d.unpaid_minor)
               <> (0, 0, 0, 0, 0, 0);
    return null;
end $$;
create trigger orders_recounted after update on orders
    referencing old table as before_rows new table as after_rows
    for each statement execute function count_changed_orders();

-- What was sold before there were sums. The triggers' locks are held: nothing is sold meanwhile.
insert into sales (offer, minute, orders, ended, unpaid, units, captured_minor, refunded_minor,
                   unpaid_minor)
    select y.offer, date_bin('1 minute', y.reserved_at, 'epoch'), count(*),
           count(*) filter (where not y.live),
           count(*) filter (where y.live and not y.captured),
           coalesce(sum(y.qty) filter (where y.live), 0),
           coalesce(sum(y.amount) filter (where y.captured), 0),
           coalesce(sum(y.amount - y.due) filter (where y.captured), 0),
           coalesce(sum(y.due) filter (where not y.captured), 0)
      from (select x.offer, x.reserved_at, x.qty, x.captured_at is not null as captured,
                   x.status in ('reserved', 'confirmed', 'shipped') as live,
                   x.qty * x.unit_price_minor as amount,
                   case when x.status in ('reserved', 'confirmed', 'shipped')
                        then x.qty * x.unit_price_minor - coalesce(x.refunded_minor, 0)
                        else 0 end as due
              from orders x) y
     group by 1, 2;

-- --- invoices ------------------------------------------------------------------------------------

-- The last number given of each of a shop's series in a year. Its row is locked from the number's
-- giving to the COMMIT, so that one that is given is there, and a rollback gives it back.
create table invoice_series (
    shop   text not null,
    series text not null check (series ~ '^[A-Z0-9]{1,8}$'),
    year   integer not null,
    last   bigint not null,
    primary key (shop, series, year)
);

-- Every document that has a number; what one says never changes.
create table invoices (
    shop         text not null,
    series       text not null,
    year         integer not null,
    n            bigint not null check (n >= 1),
    kind         text not null check (kind in ('invoice', 'credit_note')),
    order_id     text not null,  -- no foreign key, as for movements
    part         integer not null check ((kind = 'invoice') = (part = 0)),  -- of its notes, from 1
    issued_at    timestamptz not null,
    issued_by    text not null,
    currency     text not null,
    amount_minor bigint not null check (amount_minor >= 0),
    tax_minor    bigint check (tax_minor between 0 and amount_minor),
    body         jsonb not null,
    primary key (shop, series, year, n),
    unique (order_id, part)
);
create trigger invoices_stay before update or delete or truncate on invoices
    for each statement execute function refuse_rewriting();
create trigger invoice_series_stays before delete or truncate on invoice_series
    for each statement execute function refuse_rewriting();
