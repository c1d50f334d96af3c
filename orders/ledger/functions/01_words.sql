-- Small words that the other functions are written with.

-- Milliseconds since the epoch, as the wire has times.
create or replace function ms(t timestamptz) returns bigint
language sql immutable strict parallel safe
return (extract(epoch from t) * 1000)::bigint;

-- By days and the rest: seconds as one double would round far-off times.
create or replace function from_ms(t bigint) returns timestamptz
language sql immutable strict parallel safe
return (timestamp 'epoch' + make_interval(days => (t / 86400000)::integer,
                                          secs => (t % 86400000) / 1000.0)) at time zone 'UTC';

-- The row that an order, or an entry, of this offer and bucket lives under: the offer's own, or that
-- of one of its buckets. No id of a client's has a `~`.
create or replace function home_of(p_offer text, p_bucket smallint) returns text
language sql immutable strict parallel safe
return case p_bucket when 0 then p_offer else p_offer || '~' || p_bucket end;

-- An offer's row as facts carry it: times in milliseconds, since a host may name times (the year
-- 10000, "never") that text forms of dates cannot be read back from.
create or replace function offer_body(o offers) returns jsonb
language sql stable as $$
    select to_jsonb(o) || jsonb_build_object('opens_at', ms(o.opens_at),
                                             'closes_at', ms(o.closes_at));
$$;

-- Append a main event to a stream. The head row is the last lock that any transaction takes, so n
-- follows commit order: whoever sees n sees all before it.
create or replace function tell(
    p_stream text, p_kind text, p_subject text, p_reason text, p_body jsonb
) returns void language plpgsql as $$
declare head bigint;
begin
    insert into fact_heads as h (stream, n) values (p_stream, 1)
        on conflict (stream) do update set n = h.n + 1
        returning n into head;
    insert into facts (stream, n, kind, subject, reason, body)
        values (p_stream, head, p_kind, p_subject, p_reason, p_body);
end $$;

-- Note a change that the gate must learn. Returns the offer's new last movement, which the caller,
-- who holds the offer's lock, writes with the rest of its update.
create or replace function move(
    p_offer text, p_n bigint, p_epoch integer, p_kind text, p_units integer,
    p_order text, p_reason text, p_at timestamptz default clock_timestamp()
) returns bigint language plpgsql as $$
begin
    insert into movements (offer, n, kind, units, order_id, reason, epoch, at)
        values (p_offer, p_n + 1, p_kind, p_units, p_order, p_reason, p_epoch, p_at);
    return p_n + 1;
end $$;

-- An order id where no process of ours brings one: its time first, as in theirs (`orders.ids`), and
-- then so much chance that no two are alike.
create or replace function new_order_id(p_at timestamptz) returns text language sql volatile
return 'or_' || lpad(to_hex(ms(p_at)), 11, '0')
             || right(replace(gen_random_uuid()::text, '-', ''), 15);
