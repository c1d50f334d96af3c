-- name: make_notes
-- What was applied, and how far a file without a transaction has come.
create table if not exists schema_files (
    name   text primary key,
    digest text not null,
    at     timestamptz not null default clock_timestamp()
);
create table if not exists schema_steps (
    name     text not null,
    step     integer not null,
    digest   text not null,
    position text,
    done     boolean not null,
    at       timestamptz not null default clock_timestamp(),
    primary key (name, step)
)

-- name: unsettle
-- The connection is the caller's again.
reset statement_timeout; reset client_connection_check_interval; reset lock_timeout

-- name: files
select name, digest from schema_files

-- name: note_file
insert into schema_files (name, digest) values ($1, $2)
    on conflict (name) do update set digest = $2, at = clock_timestamp()

-- name: steps_of
select step, digest, position, done from schema_steps where name = $1

-- name: note_step
insert into schema_steps (name, step, digest, position, done) values ($1, $2, $3, $4, $5)
    on conflict (name, step) do update set digest = $3, position = $4, done = $5,
                                           at = clock_timestamp()

-- name: forget_steps
delete from schema_steps where name = $1

-- name: is_half_built
-- An index that was being built when its builder died.
select exists (select 1 from pg_index i where i.indexrelid = to_regclass($1) and not i.indisvalid)

-- name: make_partition
-- A year is the least that is ready: a row without its partition would be refused.
select make_partition(clock_timestamp() + interval '2 years')

-- name: catalog
-- All that files may make in a schema, as text that is alike where the things are: what it is, its
-- table (null: it is in none), its name, its definition. The search path must be that schema alone,
-- so that no definition names one. What belongs to an extension is nobody's here.
with own as (
    select c.* from pg_class c
     where c.relnamespace = (select oid from pg_namespace where nspname = $1) and c.relkind in ('r', 'p', 'v', 'm')
       and c.relname <> all ($2::text[])
       and not c.relispartition  -- made ahead of time, and by their parent's pattern
       and not exists (select 1 from pg_depend d where d.classid = 'pg_class'::regclass
                          and d.objid = c.oid and d.deptype = 'e'))
select case when c.relkind in ('v', 'm') then 'view' else 'table' end as kind,
       null::text as owner, c.relname::text as name,
       concat_ws(' ', c.relkind, c.relpersistence, c.reloptions::text,
                 case when c.relrowsecurity then 'row security' end,
                 pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
                 case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid, true) end) as definition
  from own c
union all
select 'column', c.relname, a.attname,
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
                 case when a.attidentity <> '' then 'identity ' || a.attidentity::text end,
                 case when a.attgenerated <> '' then 'generated' end,
                 'default ' || pg_get_expr(d.adbin, d.adrelid))
  from own c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relkind in ('r', 'p')
union all
select 'index', c.relname, x.relname,
       concat_ws(' ', pg_get_indexdef(i.indexrelid, 0, true), x.reloptions::text,
                 case when not i.indisvalid then 'half built' end)
  from own c join pg_index i on i.indrelid = c.oid join pg_class x on x.oid = i.indexrelid
 where not exists (select 1 from pg_constraint k where k.conindid = i.indexrelid
                      and k.contype in ('p', 'u', 'x'))
union all
select 'constraint', c.relname, k.conname, pg_get_constraintdef(k.oid, true)
  from own c join pg_constraint k on k.conrelid = c.oid
 where k.contype in ('c', 'f', 'p', 'u', 'x')
union all
select 'trigger', c.relname, t.tgname,
       concat_ws(' ', pg_get_triggerdef(t.oid, true),
                 case when t.tgenabled <> 'O' then 'enabled ' || t.tgenabled::text end)
  from own c join pg_trigger t on t.tgrelid = c.oid
 where not t.tgisinternal
union all
select 'function', null, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
       regexp_replace(pg_get_functiondef(p.oid), '^(CREATE OR REPLACE \w+ )[^.(]+\.', '\1')
  from pg_proc p
 where p.pronamespace = (select oid from pg_namespace where nspname = $1) and p.prokind in ('f', 'p')
   and not exists (select 1 from pg_depend d where d.classid = 'pg_proc'::regclass
                      and d.objid = p.oid and d.deptype = 'e')
