-- Video that comes and goes: a publisher starts a stream, and his absence ends it after a grace.
--
-- What publishing started, its stop ends; what a host started by hand, a host ends. A stop says
-- when the stream ends and nothing more: the keeper ends it, whoever heard of the stop.

-- key_ingest: give a stream another key; the one before is good for stops alone: who came with it
-- may publish still, and goes with it.
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
        on conflict (stream) do update
            set key_before = ingests.key_hash, key_hash = excluded.key_hash;
    return 'ok';
end $$;

-- is_session: whether a session is the named one, or a part of it: `name:...`, as each track is of
-- its participant.
create or replace function is_session(p_session text, p_name text) returns boolean
language sql immutable
return coalesce(p_session = p_name or starts_with(p_session, p_name || ':'), false);

-- start_ingest: somebody publishes; `again` when that changes nothing. p_late_s: for how long a
-- start of a session that has stopped is one that was late, or sent twice: media servers that count
-- their sessions from 1 anew use a name again. p_beside: he takes nobody's place: others publish as
-- well, or he is refused by the media server after this, which then tells of his stop.
create or replace function start_ingest(
    p_stream text, p_session text, p_late_s double precision, p_playback_url text,
    p_beside boolean
) returns text language plpgsql as $$
declare
    s streams;
    i ingests;
    sessions_max constant integer := 50;  -- the oldest of more is one whose stop was lost
begin
    select * into s from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    elsif s.status = 'ended' then
        return 'conflict';
    end if;
    insert into ingests (stream) values (p_stream) on conflict do nothing;
    select * into i from ingests where stream = p_stream for update;
    if is_session(p_session, i.stopped)
            and i.stopped_at > clock_timestamp() - make_interval(secs => p_late_s) then
        return 'again';
    end if;
    i.sessions := case when p_beside then array_remove(i.sessions, p_session) || p_session
                       else array[p_session] end;
    i.sessions := i.sessions[greatest(1, cardinality(i.sessions) - sessions_max + 1):];
    update ingests set sessions = i.sessions, ends_at = null,
                       started = i.started or s.status = 'scheduled'
        where stream = p_stream;
    -- A host's own URL stays.
    update streams set playback_url = p_playback_url
        where id = p_stream and playback_url is null and p_playback_url is not null;
    if found and s.status = 'live' then  -- a host started it by hand: who waits has no URL yet
        perform tell(p_stream, 'stream.started', p_stream, 'video', null);
        return 'ok';
    end if;
    return start_stream(p_stream);
end $$;

-- stop_ingest: a publisher went. One who is not among those that publish now is not missed: he was
-- followed by another, or the words came in another order. p_session null: nobody publishes.
create or replace function stop_ingest(
    p_stream text, p_session text, p_grace_s double precision
) returns text language plpgsql as $$
declare
    i ingests;
    stay text[];
begin
    perform 1 from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    end if;
    insert into ingests (stream) values (p_stream) on conflict do nothing;
    select * into i from ingests where stream = p_stream for update;
    stay := array(select one from unnest(i.sessions) one
                   where p_session is not null and not is_session(one, p_session));
    -- Also of one whose start is still under way.
    update ingests set sessions = stay, stopped = coalesce(p_session, i.sessions[1], i.stopped),
                       stopped_at = clock_timestamp(),
                       ends_at = case when i.started and stay = '{}' and i.sessions <> '{}'
                           then clock_timestamp() + make_interval(secs => p_grace_s)
                           else i.ends_at end
        where stream = p_stream;
    return case when stay = i.sessions then 'again' else 'ok' end;
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
