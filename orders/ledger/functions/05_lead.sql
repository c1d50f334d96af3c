-- keep_lead: take the keeper's lead, or tell that we still have it; true when this session leads (R10).
--
-- The lock says who leads, the beat that he is alive. A leader that was stopped, not killed, keeps
-- both its session and its lock: once the beat is three seconds old, whoever asks ends that session,
-- and leads at the next asking. What the stopped one does when it goes on is conditional.
create or replace function keep_lead(p_lock integer) returns boolean language plpgsql as $$
begin
    if not exists (
            select 1 from pg_locks l where l.locktype = 'advisory' and l.classid = 0
               and l.objid = p_lock::oid and l.pid = pg_backend_pid() and l.granted)
       and not pg_try_advisory_lock(p_lock) then
        perform pg_terminate_backend(l.pid)
           from pg_locks l
           join pg_database d on d.oid = l.database and d.datname = current_database()
           join keeper_beat b on b.at < clock_timestamp() - interval '3 s'
          where l.locktype = 'advisory' and l.classid = 0 and l.objid = p_lock::oid and l.granted;
        return false;
    end if;
    insert into keeper_beat (one, at) values (true, clock_timestamp())
        on conflict (one) do update set at = excluded.at;
    return true;
end $$;
