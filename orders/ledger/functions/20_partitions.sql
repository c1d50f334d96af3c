-- Partitions, where somebody asked for them: rows go by the time in their offer's, or stream's, id, so
-- that what is fixed per offer decides (R14) and a year's sales can be put away together.

-- make_partition: make the next partition that is lacking before p_until, of one table; null when none
-- is. One a call: its locks are short. The parent's readers and writers go on; the default partition
-- is locked for a moment, and its bound proves that no row of it belongs into the new one.
create or replace function make_partition(p_until timestamptz) returns text language plpgsql
set lock_timeout = '150ms'  -- nobody who sells queues behind it for longer; its caller tries again
as $$
declare
    b record;
    part text;
    line text;
begin
    select x.*, x.from_at + q.n * interval '1 year' as lo,
           x.from_at + (q.n + 1) * interval '1 year' as hi
      into b
      from partition_bounds x
      join pg_class c on c.oid = to_regclass(x.parent) and c.relkind = 'p'
     cross join generate_series(0, 400) as q (n)
     where x.from_at + q.n * interval '1 year' < p_until
       and to_regclass(x.parent || to_char((x.from_at + q.n * interval '1 year') at time zone 'UTC',
                                           '_YYYY')) is null
     order by lo, x.parent limit 1;
    if not found then
        return null;
    end if;
    part := b.parent || to_char(b.lo at time zone 'UTC', '_YYYY');
    execute format('create table %I (like %I including defaults including constraints)',
                   part, b.parent);
    -- What each partition has of its own, the default one has.
    for line in
        select format('alter table %I set (%s)', part, array_to_string(c.reloptions, ', '))
          from pg_class c where c.oid = (b.parent || '_before')::regclass and c.reloptions is not null
        union all
        select format('alter table %I add %s', part, pg_get_constraintdef(k.oid))
          from pg_constraint k
         where k.conrelid = (b.parent || '_before')::regclass and k.contype in ('p', 'u')
           and k.conparentid = 0
        union all
        select regexp_replace(pg_get_triggerdef(t.oid, true), ' ON \S+ ', format(' ON %I ', part))
          from pg_trigger t
         where t.tgrelid = b.parent::regclass and not t.tgisinternal and t.tgtype & 1 = 0 loop
        execute line;
    end loop;
    execute format('alter table %I attach partition %I for values from (%L) to (%L)', b.parent, part,
                   b.prefix || lpad(to_hex(ms(b.lo)), 11, '0'),
                   b.prefix || lpad(to_hex(ms(b.hi)), 11, '0'));
    return part;
end $$;
