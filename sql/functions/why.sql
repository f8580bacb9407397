-- Why is this job not running now? One sentence, and the command that mends it when there is something to mend.
create or replace function jobrunner.why(_id bigint)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _j jobrunner.jobs;
    _f record;
    _n bigint;
    _x record;
    _queue text;                                                    -- as a shell takes it
begin
    select * into _j from jobrunner.jobs j where j.id = _id;
    if not found then
        select f.state, f.finished_at, f.reason into _f from jobrunner.finished_jobs f where f.id = _id;
        if not found then
            return format('Job %s is not here: no such id, or its history was dropped.', _id);
        end if;
        return format('Job %s is over: it %s at %s%s.', _id, case _f.state when 'cancelled' then 'was cancelled' else _f.state end,
            to_char(_f.finished_at at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS "UTC"'), coalesce(' (' || _f.reason || ')', ''));
    end if;

    _queue := case when _j.queue ~ '^[\w./:@%+=,-]+$' then _j.queue else quote_literal(_j.queue) end;

    case _j.state
    when 'running' then
        select r.*, now() - r.beat_at as age into _x from jobrunner.runners r where r.id = _j.runner_id;
        if _x.id is null or _x.lost_at is not null or _x.age > _x.ttl then
            return format('Job %s runs on a runner that is gone (%s, last beat %s ago): any live runner gives it back within its next scan; start one with: jobrunner run APP',
                _id, coalesce(_x.host || ':' || _x.pid, 'unknown'), coalesce(date_trunc('second', _x.age)::text, '?'));
        end if;
        return format('Job %s is running: attempt %s, for %s, on %s:%s.', _id, _j.attempt, date_trunc('second', now() - _j.started_at), _x.host, _x.pid);
    when 'scheduled' then
        if _j.run_at <= now() then
            return format('Job %s is due since %s and waits for a runner to promote it: see jobrunner runners', _id, date_trunc('second', now() - _j.run_at));
        end if;
        return format('Job %s %s in %s (failures %s of %s); to run it now: jobrunner jobs retry %s', _id,
            case when _j.failures > 0 then 'is tried again' else 'starts' end, date_trunc('second', _j.run_at - now()), _j.failures, _j.max_attempts, _id);
    when 'dead' then
        return format('Job %s is dead (%s): %s; to give it another life: jobrunner dead requeue %s', _id, coalesce(_j.reason, 'unknown'),
            coalesce(
                regexp_replace(left(_j.error, 300), '\s+', ' ', 'g') || case when length(_j.error) > 300 then '…' else '' end,
                'no error was kept'
            ), _id);
    when 'succeeded', 'cancelled' then
        return format('Job %s is over (%s) and about to move to history.', _id, _j.state);
    when 'blocked' then
        case _j.blocked_on
        when 'arrival' then
            return format('Job %s has just arrived on key %L and waits for its place in the line (the next look of a runner, at most 1 s): see jobrunner runners', _id, _j.key);
        when 'key' then
            select h.id, h.state, h.reason into _x from jobrunner.jobs h where h.key = _j.key and h.holds_key order by h.key_pos desc limit 1;
            select count(*) into _n from (
                select from jobrunner.jobs w where w.key = _j.key and w.blocked_on = 'key' and w.key_pos < _j.key_pos limit 1000
            ) w;
            if _x.id is null then
                return format('Job %s waits for key %L that nobody holds (its holder was removed by hand): runners repair it within the hour, or at once: select jobrunner.repair_keys_v1()', _id, _j.key);
            end if;
            if _x.state = 'dead' and exists (select from jobrunner.subscriptions s where s.name = _j.task) then
                return format('Job %s waits behind a dead delivery of its key, job %s, %s before it in the line: jobrunner subs resolve %s %s retry|discard', _id,
                    _x.id, case when _n = 1000 then 'at least 1000' else _n::text end, _j.task, quote_literal(substr(_j.key, length(_j.task) + 2)));
            end if;
            return format('Job %s waits for its turn on key %L: job %s holds it (%s), %s before it in the line; see: jobrunner why %s', _id, _j.key,
                _x.id, _x.state, case when _n = 1000 then 'at least 1000' else _n::text end, _x.id);
        when 'task' then
            if exists (select from jobrunner.subscriptions s where s.name = _j.task and s.paused_at is not null) then
                return jobrunner.why_paused(_id, _j.task);
            end if;
            return format('Job %s waits for a runner that knows task %s (version %s): no live runner does; start one with the code that has it: jobrunner run APP', _id, _j.task, _j.version);
        else
            return format('Job %s is blocked on %s.', _id, _j.blocked_on);
        end case;
    else
        if exists (select from jobrunner.subscriptions s where s.name = _j.task and s.paused_at is not null) then
            return jobrunner.why_paused(_id, _j.task);
        end if;
        select * into _x from jobrunner.queues q where q.name = _j.queue and q.paused_at is not null;
        if found then
            return format('Job %s is ready, but queue %s is paused since %s by %s: jobrunner queues resume %s', _id, _j.queue,
                to_char(_x.paused_at at time zone 'utc', 'YYYY-MM-DD HH24:MI "UTC"'), _x.paused_by, _queue);
        end if;
        select
            count(*) as alive,
            count(*) filter (where r.queues is null or _j.queue = any (r.queues)) as here,
            count(*) filter (where (r.queues is null or _j.queue = any (r.queues)) and t.task is not null) as able,
            count(*) filter (where (r.queues is null or _j.queue = any (r.queues)) and t.task is not null and r.busy < r.slots) as free
        into _x
        from jobrunner.runners r
        left join jobrunner.runner_tasks t on t.runner_id = r.id and t.task = _j.task and t.version >= _j.version
        where r.lost_at is null and r.beat_at > now() - r.ttl;
        if _x.alive = 0 then
            return format('Job %s is ready and no runner is alive: jobrunner run APP', _id);
        elsif _x.here = 0 then
            return format('Job %s is ready, but none of the %s live runners reads queue %s: jobrunner run APP --queue %s', _id, _x.alive, _j.queue, _queue);
        elsif _x.able = 0 then
            return format('Job %s is ready, but no live runner of queue %s knows task %s version %s: start one with the code that has it', _id, _j.queue, _j.task, _j.version);
        end if;
        select count(*) into _n from (
            select from jobrunner.jobs b
            where b.queue = _j.queue and b.state = 'ready' and (b.priority > _j.priority or (b.priority = _j.priority and b.seq < _j.seq)) limit 10000
        ) b;
        return format('Job %s is ready: %s before it in queue %s, %s of %s able runners have a free slot.', _id,
            case when _n = 10000 then 'at least 10000' else _n::text end, _j.queue, _x.free, _x.able);
    end case;
end
$$;
