-- Partitions, first part: a bound for what is there already, proved while everybody sells, so that the
-- second part has nothing to look at. The time in an id is 11 hex digits of milliseconds until the year
-- 2527; where an id without a time sorts among those to come, nothing is done: its next row would be
-- refused.
-- transaction: none

-- step: agree on the first year that has partitions
insert into partition_bounds (parent, key, prefix, from_at, first, beyond)
    select t.parent, t.key, t.prefix, y.from_at,
           t.prefix || lpad(to_hex((extract(epoch from y.from_at) * 1000)::bigint), 11, '0'),
           t.prefix || 'g'
      from (values ('orders', 'offer', 'of_'), ('movements', 'offer', 'of_'),
                   ('facts', 'stream', 'st_')) t (parent, key, prefix)
     cross join (select date_trunc('year', clock_timestamp() + interval '7 days', 'UTC')
                        + interval '1 year' as from_at) y
    on conflict do nothing

-- step: look for ids without a time
do $$
declare odd text;
begin
    select x.id into odd
      from (select id from offers union all select id from streams) x
      join partition_bounds b on x.id >= b.first and x.id < b.beyond limit 1;
    if found then
        raise exception '% has no time in it, or one to come: it has no place among partitions', odd
            using errcode = 'check_violation';
    end if;
end $$

-- step: bound orders
do $$
begin
    execute (select format('alter table orders drop constraint if exists orders_bound,'
                           ' add constraint orders_bound check (offer < %L or offer >= %L) not valid',
                           b.first, b.beyond)
               from partition_bounds b where b.parent = 'orders');
end $$

-- step: bound movements
do $$
begin
    execute (select format('alter table movements drop constraint if exists movements_bound, add'
                           ' constraint movements_bound check (offer < %L or offer >= %L) not valid',
                           b.first, b.beyond)
               from partition_bounds b where b.parent = 'movements');
end $$

-- step: bound facts
do $$
begin
    execute (select format('alter table facts drop constraint if exists facts_bound,'
                           ' add constraint facts_bound check (stream < %L or stream >= %L) not valid',
                           b.first, b.beyond)
               from partition_bounds b where b.parent = 'facts');
end $$

-- step: prove the bound of orders
alter table orders validate constraint orders_bound

-- step: prove the bound of movements
alter table movements validate constraint movements_bound

-- step: prove the bound of facts
alter table facts validate constraint facts_bound
