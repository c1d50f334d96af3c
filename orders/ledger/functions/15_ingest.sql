-- Video that comes and goes: a publisher starts a stream, and his absence ends it after a grace.
--
-- What publishing started, its stop ends; what a host started by hand, a host ends. A stop says
-- when the stream ends and nothing more: the keeper ends it, whoever heard of the stop.

-- key_ingest: give a stream another key; the one before is good no more.
create or replace function key_ingest(p_stream text, p_hash bytea) returns text
language plpgsql as $$
declare s streams;
begin
    select * into s from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    elsif s.status = 'ended' then
        return 'conflict';
    end if;
    insert into ingests (stream, key_hash) values (p_stream, p_hash)
        on conflict (stream) do update set key_hash = excluded.key_hash;
    return 'ok';
end $$;

-- start_ingest: somebody publishes; `again` when that changes nothing. p_late_s: for how long a
-- start of a session that has stopped is one that was late, or sent twice: media servers that count
-- their sessions from 1 anew use a name again.
create or replace function start_ingest(
    p_stream text, p_session text, p_late_s double precision, p_playback_url text
) returns text language plpgsql as $$
declare
    s streams;
    i ingests;
begin
    select * into s from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    elsif s.status = 'ended' then
        return 'conflict';
    end if;
    insert into ingests (stream) values (p_stream) on conflict do nothing;
    select * into i from ingests where stream = p_stream for update;
    if i.stopped = p_session
            and i.stopped_at > clock_timestamp() - make_interval(secs => p_late_s) then
        return 'again';
    end if;
    update ingests set session = p_session, ends_at = null,
                       started = i.started or s.status = 'scheduled'
        where stream = p_stream;
    -- A host's own URL stays.
    update streams set playback_url = p_playback_url
        where id = p_stream and playback_url is null and p_playback_url is not null;
    return start_stream(p_stream);
end $$;

-- stop_ingest: a publisher went. One who is not the one that publishes now is not missed: he was
-- followed by another, or the words came in another order. p_session null: nobody publishes.
create or replace function stop_ingest(
    p_stream text, p_session text, p_grace_s double precision
) returns text language plpgsql as $$
declare i ingests;
begin
    perform 1 from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    end if;
    insert into ingests (stream) values (p_stream) on conflict do nothing;
    select * into i from ingests where stream = p_stream for update;
    if p_session is not null and i.session is distinct from p_session then
        if i.session is null then  -- its start is still under way
            update ingests set stopped = p_session, stopped_at = clock_timestamp()
                where stream = p_stream;
        end if;
        return 'again';
    end if;
    update ingests set session = null, stopped = coalesce(p_session, i.session, i.stopped),
                       stopped_at = clock_timestamp(),
                       ends_at = case when i.started and i.session is not null
                           then clock_timestamp() + make_interval(secs => p_grace_s)
                           else i.ends_at end
        where stream = p_stream;
    return case when i.session is null then 'again' else 'ok' end;
end $$;

-- end_ingest: end a stream whose grace is over, unless its publisher came back meanwhile.
create or replace function end_ingest(p_stream text) returns text language plpgsql as $$
begin
    perform 1 from streams where id = p_stream for no key update;
    update ingests set ends_at = null where stream = p_stream and ends_at <= clock_timestamp();
    if not found then
        return 'again';
    end if;
    return end_stream(p_stream);
end $$;
