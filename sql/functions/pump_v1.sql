-- Sees to it that a job of this stream subscription starts after the caller's commit and reads what he wrote: the one that
-- waits already, held for share until then (a claim passes over it), else a new one. Waits for nobody. True when it made one.
create or replace function jobrunner.pump_v1(_stream text)
returns boolean
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _s      jobrunner.subscriptions;
    _holder bigint;
    _place  bigint;
begin
    select s.* into _s from jobrunner.subscriptions s where s.name = _stream and s.mode = 'stream' and s.paused_at is null;
    if not found then
        return false;                            -- op_resume makes one
    end if;
    select j.id, j.key_pos
    into _holder, _place
    from jobrunner.jobs j
    where j.key = _stream
        and j.holds_key
    order by j.key_pos desc                      -- and behind its place: neither walks the dead entries of those before
    limit 1;
    perform 1
    from jobrunner.jobs j
    where j.id = _holder
        and j.holds_key
        and j.runner_id is null
        and j.finished_at is null
    for share skip locked;
    if found then
        return false;
    end if;
    perform 1
    from jobrunner.jobs j
    where j.key = _stream
        and j.blocked_on = 'key'
        and j.key_pos > _place
    order by j.key_pos
    limit 1
    for share skip locked;
    if found then
        return false;
    end if;
    insert into jobrunner.jobs (state, blocked_on, queue, task, priority, max_attempts, key)
    values ('blocked', 'arrival', _s.queue, _stream, _s.priority, _s.max_attempts, _stream);
    perform jobrunner.wake(_s.queue);
    return true;
end
$$;
