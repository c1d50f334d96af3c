-- Partitions, second part: a parent takes each table's name, and the table becomes its default
-- partition, with all that it has. No row is read or moved. What hangs on the name, keys, indexes,
-- triggers, views and rights, is made again on the parent as it stands here, whichever migrations
-- made it; functions that name the rows are made again from their files.
-- functions: anew
do $$
declare
    b record;
    old text;
    line text;
    before text[];  -- done while the table still has its name: with what it must part first
    after text[];   -- done to the parent
begin
    for b in select * from partition_bounds order by parent loop
        old := b.parent || '_before';
        execute format('lock table %I in access exclusive mode', b.parent);
        select array_agg(distinct format('drop function if exists %s cascade', d.objid::regprocedure))
          into before
          from pg_class c join pg_type t on t.oid = c.reltype join pg_depend d
            on (d.refclassid = 'pg_type'::regclass and d.refobjid in (t.oid, t.typarray))
            or (d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid)
         where c.oid = b.parent::regclass and d.classid = 'pg_proc'::regclass;
        select array_agg(x.line order by x.place, x.line) into after from (
            -- A key without the column that decides holds in each partition alone (docs/database.md).
            select 1, format('alter table %I add constraint %I %s', b.parent, k.conname,
                             pg_get_constraintdef(k.oid))
              from pg_constraint k
             where k.conrelid = b.parent::regclass and k.contype in ('p', 'u', 'f')
               and (k.contype = 'f' or exists (
                       select 1 from pg_attribute a where a.attrelid = k.conrelid
                          and a.attnum = any (k.conkey) and a.attname = b.key))
            union all
            select 2, pg_get_indexdef(i.indexrelid) from pg_index i
             where i.indrelid = b.parent::regclass
               and not exists (select 1 from pg_constraint k where k.conindid = i.indexrelid)
            union all
            select 3, pg_get_triggerdef(t.oid) from pg_trigger t
             where t.tgrelid = b.parent::regclass and not t.tgisinternal
            union all
            select distinct 4, format('create or replace view %I as %s', v.relname,
                                      pg_get_viewdef(v.oid))
              from pg_depend d join pg_rewrite w on w.oid = d.objid
              join pg_class v on v.oid = w.ev_class
             where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
               and d.refobjid = b.parent::regclass
            union all
            select 5, format('grant %s on %I to %s', g.privilege_type, b.parent,
                             case g.grantee when 0 then 'public' else g.grantee::regrole::text end)
              from pg_class c cross join lateral aclexplode(c.relacl) g
             where c.oid = b.parent::regclass and g.grantee <> c.relowner
        ) x (place, line);

        -- A trigger of rows goes from the parent to its partitions by itself.
        select before || array_agg(format('drop trigger %I on %I', t.tgname, b.parent))
          into before
          from pg_trigger t
         where t.tgrelid = b.parent::regclass and not t.tgisinternal and t.tgtype & 1 = 1;
        foreach line in array coalesce(before, '{}') loop
            execute line;
        end loop;
        execute format('alter table %I rename to %I', b.parent, old);
        for line in select format('alter index %I rename to %I', x.relname,
                                  regexp_replace(x.relname, format('^(%s_)?', b.parent), old || '_'))
                      from pg_index i join pg_class x on x.oid = i.indexrelid
                     where i.indrelid = old::regclass loop
            execute line;
        end loop;
        execute format('create table %I (like %I including defaults including constraints'
                       ' including comments) partition by range (%I)', b.parent, old, b.key);
        execute format('alter table %I drop constraint %I', b.parent, b.parent || '_bound');
        execute format('alter table %I attach partition %I default', b.parent, old);
        foreach line in array after loop
            execute line;
        end loop;
    end loop;
end $$;
