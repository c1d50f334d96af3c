-- Outbound webhooks: what is noted with its cause, what is made of it, and how a delivery goes on.

-- hook_shop: whose a stream is, if the shop has an endpoint that may want orders; else null.
create or replace function hook_shop(p_stream text) returns text language sql stable as $$
    select s.shop from streams s
     where s.id = p_stream
       and exists (select 1 from webhooks w where w.shop = s.shop and w.enabled and w.of_orders);
$$;

-- hook_note: write down what happened to orders of a stream; one row, or one for each 500 of a draw.
create or replace function hook_note(
    p_shop text, p_stream text, p_orders text[], p_versions integer[], p_names text[]
) returns void language plpgsql as $$
begin
    for i in 0 .. coalesce((cardinality(p_orders) + 499) / 500, 0) - 1 loop
        insert into hook_outbox (shop, stream, orders, versions, names)
            values (p_shop, p_stream, p_orders[i * 500 + 1 : i * 500 + 500],
                    p_versions[i * 500 + 1 : i * 500 + 500],
                    p_names[i * 500 + 1 : i * 500 + 500]);
    end loop;
end $$;

-- Admissions. Without an endpoint it is one look into an empty index. The streams of a statement,
-- mostly one, are found by minima: a hash table would cost more than all the rest.
create or replace function hook_new_orders() returns trigger language plpgsql as $$
declare
    of_stream text;
    of_shop text;
    ids text[];
    versions integer[];
    names text[];
begin
    if not exists (select 1 from webhooks w where w.enabled and w.of_orders) then
        return null;
    end if;
    of_stream := (select min(r.stream) from new_rows r);
    while of_stream is not null loop
        of_shop := hook_shop(of_stream);
        if of_shop is not null then
            select array_agg(r.id), array_agg(r.version), array_agg(r.status)
              into ids, versions, names from new_rows r where r.stream = of_stream;
            perform hook_note(of_shop, of_stream, ids, versions, names);
        end if;
        of_stream := (select min(r.stream) from new_rows r where r.stream > of_stream);
    end loop;
    return null;
end $$;

-- What changed an order afterwards: another status, a part given back, or that it is late; nobody is
-- told of the rest. Whoever updates has switched hash joins off for its own plans; two sets need one.
create or replace function hook_changed_orders() returns trigger language plpgsql
set enable_hashjoin = on
as $$
declare
    of_stream text;
    of_shop text;
    ids text[];
    versions integer[];
    names text[];
begin
    if not exists (select 1 from webhooks w where w.enabled and w.of_orders) then
        return null;
    end if;
    of_stream := (select min(r.stream) from new_rows r);
    while of_stream is not null loop
        of_shop := hook_shop(of_stream);
        if of_shop is not null then
            select array_agg(r.id), array_agg(r.version), array_agg(r.name)
              into ids, versions, names
              from (select a.id, a.version, case
                           when a.status <> b.status then a.status
                           when a.refunded_minor is distinct from b.refunded_minor then 'refunded'
                           when a.late_at is distinct from b.late_at then 'late' end as name
                      from old_rows b join new_rows a on a.id = b.id
                     where a.version <> b.version and a.stream = of_stream) r
             where r.name is not null;
            perform hook_note(of_shop, of_stream, ids, versions, names);
        end if;
        of_stream := (select min(r.stream) from new_rows r where r.stream > of_stream);
    end loop;
    return null;
end $$;

create or replace trigger hooks_new after insert on orders
    referencing new table as new_rows
    for each statement execute function hook_new_orders();
create or replace trigger hooks_changed after update on orders
    referencing old table as old_rows new table as new_rows
    for each statement execute function hook_changed_orders();

-- Facts; once a statement: partitions get their parent's triggers, and one a row would be there twice.
create or replace function hook_fact() returns trigger language plpgsql as $$
begin
    insert into hook_outbox (shop, stream, fact)
        select s.shop, s.id, f.n from new_rows f join streams s on s.id = f.stream
         where (f.kind like 'offer.%' or f.kind like 'stream.%')
           and f.reason is distinct from 'video'  -- no start, but where the video of one is
           and exists (select 1 from webhooks w
                        where w.shop = s.shop and w.enabled and w.of_facts);
    return null;
end $$;
create or replace trigger hooks_fact after insert on facts
    referencing new table as new_rows
    for each statement execute function hook_fact();

-- hook_wants: whether an endpoint with this filter is told of an event.
create or replace function hook_wants(p_events text[], p_type text) returns boolean
language sql immutable parallel safe
return p_type = any (p_events) or split_part(p_type, '.', 1) || '.*' = any (p_events);

-- make_deliveries: make deliveries of outbox rows, and take these away, in one transaction. The
-- arrays are parallel: which row an event is of, its id, its type and its body. A row that another
-- sender takes, or took, at this moment is left to him. Returns how many deliveries there are more.
create or replace function make_deliveries(
    p_rows bigint[], p_of bigint[], p_events text[], p_types text[], p_bodies text[]
) returns integer language plpgsql as $$
declare
    made integer;
begin
    with mine as (
        select o.n from hook_outbox o where o.n = any (p_rows) order by o.n for update skip locked),
    taken as (
        delete from hook_outbox o using mine where o.n = mine.n returning o.n, o.shop)
    insert into hook_deliveries (webhook, event, type, body)
        select w.id, x.event, x.type, x.body
          from taken t
          join unnest(p_of, p_events, p_types, p_bodies) as x (n, event, type, body) on x.n = t.n
          join webhooks w on w.shop = t.shop
         where w.enabled and hook_wants(w.events, x.type)
         order by x.n, x.event
        on conflict (webhook, event) do nothing;
    get diagnostics made = row_count;
    return made;
end $$;

-- claim_deliveries: take so many due ones of each of these endpoints, for p_lease_s: who died with
-- them is found out by that. Two senders never get the same one while it is leased.
create or replace function claim_deliveries(
    p_webhooks text[], p_many integer[], p_lease_s double precision
) returns table (n bigint, webhook text, event text, type text, body text, attempt integer,
                 tries integer)
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    now_at timestamptz := clock_timestamp();
begin
    -- Should the server crash and forget it: it is claimed again, and sent under the same id.
    perform set_config('synchronous_commit', 'off', true);
    return query
        with picked as (
            select d.n from unnest(p_webhooks, p_many) as x (webhook, many)
             cross join lateral (
                   select y.n from hook_deliveries y
                    where y.webhook = x.webhook and y.state = 'pending' and y.due_at <= now_at
                    order by y.due_at limit x.many for update skip locked) d)
        update hook_deliveries h
           set due_at = now_at + make_interval(secs => p_lease_s), attempts = h.attempts + 1,
               tries = h.tries + 1
          from picked where h.n = picked.n
        returning h.n, h.webhook, h.event, h.type, h.body, h.attempts, h.tries;
end $$;

-- note_delivery: write down how an attempt went, and what follows. Success counts whoever had it;
-- failure only of the attempt that has the lease. p_wait_s: until the next one; p_life_s: how long a
-- delivery is tried, and how long an endpoint may fail altogether. The word is delivered, again,
-- dead, or stale; `disabled` tells why the endpoint was switched off by this, if it was.
create or replace function note_delivery(
    p_n bigint, p_attempt integer, p_ok boolean, p_status integer, p_error text, p_answer text,
    p_ms integer, p_wait_s double precision, p_life_s double precision,
    out word text, out disabled text
) language plpgsql as $$
declare
    d hook_deliveries;
    w webhooks;
    now_at timestamptz;
    life interval := make_interval(secs => p_life_s);
begin
    perform set_config('synchronous_commit', 'off', true);  -- as in claim_deliveries
    select * into d from hook_deliveries h where h.n = p_n for update;
    if not found then
        word := 'stale';
        return;
    end if;
    now_at := clock_timestamp();
    insert into hook_attempts (delivery, attempt, at, duration_ms, status, error, answer)
        values (p_n, p_attempt, now_at, p_ms, p_status, p_error, p_answer)
        on conflict do nothing;
    if d.state <> 'pending' or (not p_ok and d.attempts <> p_attempt) then
        word := 'stale';
    elsif p_ok then
        word := 'delivered';
        update hook_deliveries set state = 'delivered', ended_at = now_at where n = p_n;
    elsif now_at + make_interval(secs => p_wait_s) > d.first_at + life then
        word := 'dead';
        update hook_deliveries set state = 'dead', ended_at = now_at where n = p_n;
    else
        word := 'again';
        update hook_deliveries set due_at = now_at + make_interval(secs => p_wait_s) where n = p_n;
    end if;
    if p_ok then
        update webhooks x set delivered_at = now_at, failures = 0, failing_since = null,
                              resume_at = null
            where x.id = d.webhook
              and (x.failures > 0 or x.failing_since is not null or x.delivered_at is null
                   or x.delivered_at < now_at - interval '10 s');
        return;
    end if;
    -- As it is in the lock: those that fail at one time count once.
    select * into w from webhooks x where x.id = d.webhook for no key update;
    if w.resume_at is null or w.resume_at <= now_at then
        w.failures := w.failures + 1;
        if w.failures >= 3 then
            w.resume_at := now_at + least(interval '10 min',
                                          interval '5 s' * 2 ^ least(w.failures - 3, 10));
        end if;
    end if;
    w.failing_since := coalesce(w.failing_since, now_at);
    if w.enabled then
        disabled := case when p_status = 410 then 'gone'
                         when w.failing_since <= now_at - life then 'failing' end;
    end if;
    update webhooks x set failures = w.failures, failing_since = w.failing_since,
                          resume_at = w.resume_at, enabled = x.enabled and disabled is null,
                          disabled_at = case when disabled is null then x.disabled_at
                                             else now_at end,
                          disabled_why = coalesce(disabled, x.disabled_why)
        where x.id = d.webhook;
end $$;

-- create_webhook: add an endpoint with its first secret. The word is ok, or too_many.
create or replace function create_webhook(
    p_id text, p_shop text, p_url text, p_events text[], p_of_orders boolean, p_of_facts boolean,
    p_description text, p_sealed bytea, p_max integer
) returns text language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('webhooks of ' || p_shop, 0));
    if (select count(*) from webhooks w where w.shop = p_shop and w.deleted_at is null) >= p_max then
        return 'too_many';
    end if;
    insert into webhooks (id, shop, url, events, of_orders, of_facts, description)
        values (p_id, p_shop, p_url, p_events, p_of_orders, p_of_facts, p_description);
    insert into hook_secrets (webhook, n, sealed) values (p_id, 1, p_sealed);
    return 'ok';
end $$;

-- revise_webhook: change what is not null; an empty description takes it away. One that is enabled,
-- or led elsewhere, begins anew. The word is ok, or not_found.
create or replace function revise_webhook(
    p_id text, p_url text, p_events text[], p_of_orders boolean, p_of_facts boolean,
    p_description text, p_enabled boolean
) returns text language plpgsql as $$
declare
    w webhooks;
begin
    select * into w from webhooks x where x.id = p_id and x.deleted_at is null for no key update;
    if not found then
        return 'not_found';
    end if;
    if p_url <> w.url or (p_enabled and not w.enabled) then
        w.failures := 0;
        w.failing_since := null;
        w.resume_at := null;
    end if;
    if p_enabled then
        w.disabled_at := null;
        w.disabled_why := null;
    elsif not p_enabled and w.enabled then
        w.disabled_at := clock_timestamp();
        w.disabled_why := 'host';
    end if;
    update webhooks set url = coalesce(p_url, url), events = coalesce(p_events, events),
                        of_orders = coalesce(p_of_orders, of_orders),
                        of_facts = coalesce(p_of_facts, of_facts),
                        description = nullif(coalesce(p_description, description), ''),
                        enabled = coalesce(p_enabled, enabled), disabled_at = w.disabled_at,
                        disabled_why = w.disabled_why, failures = w.failures,
                        failing_since = w.failing_since, resume_at = w.resume_at
        where id = p_id;
    return 'ok';
end $$;

-- rotate_webhook: sign with another secret from now on, and with those before for p_overlap_s more,
-- or as long as they were to. The word is ok, not_found, or too_many that still sign.
create or replace function rotate_webhook(
    p_id text, p_sealed bytea, p_overlap_s double precision, p_max integer
) returns text language plpgsql as $$
declare
    now_at timestamptz := clock_timestamp();
begin
    perform 1 from webhooks x where x.id = p_id and x.deleted_at is null for no key update;
    if not found then
        return 'not_found';
    end if;
    delete from hook_secrets where webhook = p_id and until <= now_at;
    if (select count(*) from hook_secrets where webhook = p_id) >= p_max then
        return 'too_many';
    end if;
    update hook_secrets set until = now_at + make_interval(secs => p_overlap_s)
        where webhook = p_id and until is null;
    insert into hook_secrets (webhook, n, sealed)
        select p_id, coalesce(max(s.n), 0) + 1, p_sealed from hook_secrets s where s.webhook = p_id;
    return 'ok';
end $$;

-- delete_webhook: forget its secrets and tell it nothing more; the rest is swept away.
create or replace function delete_webhook(p_id text) returns text language plpgsql as $$
begin
    update webhooks set enabled = false, deleted_at = clock_timestamp()
        where id = p_id and deleted_at is null;
    if not found then
        return 'not_found';
    end if;
    delete from hook_secrets where webhook = p_id;
    return 'ok';
end $$;

-- replay_deliveries: send ended deliveries of an endpoint again, under the same ids: one (p_n), or up
-- to p_limit of those since a time, oldest first. Returns how many, and when the last of them was
-- made if there may be more.
create or replace function replay_deliveries(
    p_id text, p_n bigint, p_since_ms bigint, p_dead_only boolean, p_limit integer,
    out many integer, out last_ms bigint
) language plpgsql as $$
declare
    now_at timestamptz := clock_timestamp();
begin
    with picked as (
        select d.n from hook_deliveries d
         where d.webhook = p_id and (p_n is null or d.n = p_n)
           and (p_since_ms is null or ms(d.created_at) >= p_since_ms)  -- as it is shown
           and (d.state = 'dead' or (d.state = 'delivered' and not p_dead_only))
         order by d.n limit p_limit for update),
    again as (
        update hook_deliveries d set state = 'pending', first_at = now_at, due_at = now_at,
                                     tries = 0, ended_at = null
          from picked where d.n = picked.n returning d.created_at)
    select count(*), ms(max(a.created_at)) into many, last_ms from again a;
    if many < p_limit then
        last_ms := null;
    end if;
end $$;

-- sweep_hooks: a bounded part of what is over: deliveries that nobody tried for p_life_s are dead,
-- ended ones go after p_kept_s, and with those of a deleted endpoint it goes itself. Returns how many
-- rows it had to do with.
create or replace function sweep_hooks(
    p_life_s double precision, p_kept_s double precision, p_limit integer
) returns integer language plpgsql
set enable_seqscan = off
as $$
declare
    now_at timestamptz := clock_timestamp();
    part integer;
    done integer := 0;
begin
    with stale as (
        select d.n from hook_waiting() w
         cross join lateral (
               select y.n from hook_deliveries y
                where y.webhook = w.id and y.state = 'pending'
                  and y.due_at < now_at - make_interval(secs => p_life_s)
                order by y.due_at limit p_limit for update skip locked) d
         limit p_limit)
    update hook_deliveries h set state = 'dead', ended_at = now_at from stale where h.n = stale.n;
    get diagnostics part = row_count;
    done := done + part;
    with over as (
        select d.n from hook_deliveries d
         where d.state <> 'pending' and d.ended_at < now_at - make_interval(secs => p_kept_s)
         order by d.ended_at limit p_limit for update skip locked)
    delete from hook_deliveries h using over where h.n = over.n;
    get diagnostics part = row_count;
    done := done + part;
    with over as (
        select d.n from webhooks w
         cross join lateral (select y.n from hook_deliveries y where y.webhook = w.id
                              order by y.n limit p_limit for update skip locked) d
         where w.deleted_at is not null limit p_limit)
    delete from hook_deliveries h using over where h.n = over.n;
    get diagnostics part = row_count;
    done := done + part;
    -- A minute later: whoever made deliveries as it was deleted has committed them by then.
    delete from webhooks w where w.deleted_at < now_at - interval '1 min'
       and not exists (select 1 from hook_deliveries d where d.webhook = w.id);
    get diagnostics part = row_count;
    return done + part;
end $$;

-- hook_waiting: the endpoints with pending deliveries, one step in the index for each.
create or replace function hook_waiting() returns table (id text) language sql stable as $$
    with recursive w (id) as (
        (select d.webhook from hook_deliveries d where d.state = 'pending'
          order by d.webhook limit 1)
        union all
        select (select d.webhook from hook_deliveries d
                 where d.state = 'pending' and d.webhook > w.id order by d.webhook limit 1)
          from w where w.id is not null)
    select w.id from w where w.id is not null;
$$;
