-- Claims up to _n ready jobs for a runner, in the order given: one row of the arrays is one class (queue, priority), looked
-- at above its floor. Takes only tasks (and versions) that the runner knows; _plain: only jobs that may wait in its hands
-- (no key, never crashed). Skips paused queues and subscriptions. Each claim is an attempt. JR001 when the runner was declared lost. A unique key until
-- the start is given up here for good: a job that goes back may meet a second one of its key.
--
-- The settings are part of the statement: a plan made for an empty table ran for minutes on a full one, so every other
-- way is switched off, and jit with it (its cost model takes the switched-off plans for expensive ones: 300 ms a call).
create or replace function jobrunner.claim_v1(
    _runner     bigint,
    _n          integer,
    _queues     text[],
    _priorities smallint[],
    _floors     bigint[],
    _tasks      text[],
    _versions   smallint[],
    _plain      boolean     default false,
    _now        timestamptz default null
)
returns table (
    id bigint, task text, version smallint, queue text, priority smallint, seq bigint, attempt integer, failures integer,
    crashes smallint, max_attempts integer, key text, args text, headers text, run_at timestamptz, created_at timestamptz,
    started_at timestamptz
)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
set jit = off
as $$
#variable_conflict use_column
declare
    _common smallint := (select min(v) from unnest(_versions) v);   -- up to here a version needs no look at its task
begin
    if not exists (select from jobrunner.runners r where r.id = _runner and r.lost_at is null) then
        raise exception 'jobrunner: runner % was declared lost', _runner using errcode = 'JR001';
    end if;
    return query
    with claimed as (
        update jobrunner.jobs j
        set state = 'running',
            attempt = j.attempt + 1,
            runner_id = _runner,
            started_at = coalesce(_now, clock_timestamp()),
            reason = null
        where j.id = any (array(
            select x.id
            from unnest(_queues, _priorities, _floors) with ordinality k (queue, priority, floor, n)
            cross join lateral (
                select y.id
                from jobrunner.jobs y
                where y.queue = k.queue
                    and y.state = 'ready'
                    and y.priority = k.priority
                    and y.seq > k.floor
                    and case
                        when y.version <= _common then y.task = any (_tasks)
                        else exists (select from unnest(_tasks, _versions) t (task, version) where t.task = y.task and t.version >= y.version)
                    end
                    and (not _plain or (y.key is null and y.crashes = 0))
                    and y.task <> all ((         -- in this snapshot: the pause that a death brings comes with the turn of the next
                        select coalesce(array_agg(s.name), '{}') from jobrunner.subscriptions s where s.paused_at is not null
                    )::text[])
                order by y.seq
                limit _n
                for no key update skip locked
            ) x
            where not exists (select from jobrunner.queues q where q.name = k.queue and q.paused_at is not null)
            limit _n
        ))
        returning j.id, j.task, j.version, j.queue, j.priority, j.seq, j.attempt, j.failures, j.crashes, j.max_attempts,
            j.key, j.args, j.headers, j.run_at, j.created_at, j.started_at, j.unique_until
    ),
    given_up as (
        delete from jobrunner.unique_keys u
        using claimed c
        where c.unique_until = 'start'
            and u.job_id = c.id
    )
    select c.id, c.task, c.version, c.queue, c.priority, c.seq, c.attempt, c.failures, c.crashes, c.max_attempts,
        c.key, c.args::text, case when c.headers <> '{}' then c.headers::text end, c.run_at, c.created_at, c.started_at
    from claimed c;
end
$$;
