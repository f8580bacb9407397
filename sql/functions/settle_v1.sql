-- Every other end of an attempt, and every end of a keyed job: retry, snooze, hand back, crash, dead, cancelled, succeeded. Takes
-- [{id, attempt, state, delay, failed, crashed, reason, outcome, error, error_type, message, traceback, result}], delay in seconds;
-- returns the ids that are settled now. Fenced by (id, attempt, runner). A row that someone else holds locked is
-- passed over and not returned: send it again. Lock first, decide in a later snapshot: READ COMMITTED only.
-- FOR UPDATE and not NO KEY UPDATE: the weaker lock would let a seat step hold the row (for key share), depart_v1 would pass it
-- over, and a dead job would keep its key for ever.
create or replace function jobrunner.settle_v1(_runner bigint, _rows jsonb, _now timestamptz default null)
returns bigint[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set lock_timeout = '250ms'
as $$
declare
    _ids   bigint[];
    _ended bigint[];
    _dead  bigint[];
    _queues text[];
begin
    perform jobrunner.require_read_committed();
    _now := coalesce(_now, now());

    select coalesce(array_agg(l.id), '{}')
    into _ids
    from (
        select j.id
        from (select r.id, r.attempt from jsonb_to_recordset(_rows) as r (id bigint, attempt integer) order by r.id) f
        cross join lateral (                     -- with a limit it stays one: a join could read every job
            select x.id
            from jobrunner.jobs x
            where x.id = f.id
                and x.attempt = f.attempt
                and x.runner_id + 0 = _runner
            limit 1
            for update skip locked
        ) j
    ) l;
    _ids := jobrunner.may_end_v1(_ids, array(
        select f.id
        from jsonb_to_recordset(_rows) as f (id bigint, state text)
        where f.state in ('succeeded', 'dead', 'cancelled')
    ));
    _ids := jobrunner.may_die_v1(_ids, array(
        select f.id
        from jsonb_to_recordset(_rows) as f (id bigint, state text)
        where f.state = 'dead'
    ));
    if _ids = '{}' then
        return _ids;
    end if;

    -- A job may snooze, or be handed back, for ever; what it leaves must not grow with it.
    with written as (
        insert into jobrunner.attempts (job_id, attempt, runner_id, started_at, ended_at, outcome, reason, error_type, message, traceback)
        select j.id, j.attempt, j.runner_id, j.started_at, _now, f.outcome, f.reason, f.error_type, f.message, f.traceback
        from jsonb_to_recordset(_rows) as f (id bigint, outcome text, reason text, error_type text, message text, traceback text)
        join jobrunner.jobs j on j.id = f.id
        where f.outcome is not null
            and j.id = any (_ids)
        on conflict (job_id, attempt) do nothing
        returning job_id, attempt, outcome
    )
    delete from jobrunner.attempts a
    using written w
    where w.outcome in ('snoozed', 'handed_back')
        and a.job_id = w.job_id
        and a.attempt < w.attempt
        and a.outcome = w.outcome;

    insert into jobrunner.job_results (job_id, result)
    select f.id, f.result
    from jsonb_to_recordset(_rows) as f (id bigint, result jsonb)
    where f.result is not null
        and f.id = any (_ids)
    on conflict (job_id) do update
    set result = excluded.result;

    with ended as (
        update jobrunner.jobs j
        set state = f.state,
            run_at = case when f.state = 'scheduled' then _now + f.delay * interval '1 s' else j.run_at end,
            seq = case when f.state = 'ready' then jobrunner.stamp() else j.seq end,
            failures = least(j.failures + case when f.failed then 1 else 0 end, j.max_attempts),   -- a person may have lowered it
            crashes = least(j.crashes + case when f.crashed then 1 else 0 end, 32767),
            finished_at = case when f.state in ('succeeded', 'dead', 'cancelled') then _now end,
            runner_id = null,
            reason = f.reason,
            error = coalesce(f.error, j.error)
        from (
            -- A person's request to cancel stands above another try.
            select
                r.id, r.delay, r.failed, r.crashed, r.error,
                case when c.job_id is not null and r.state in ('scheduled', 'ready') then 'cancelled' else r.state end as state,
                case when c.job_id is not null and r.state in ('scheduled', 'ready') then coalesce(c.reason, 'requested') else r.reason end as reason
            from jsonb_to_recordset(_rows) as r (id bigint, state text, delay double precision, failed boolean, crashed boolean, reason text, error text)
            left join jobrunner.cancel_requests c on c.job_id = r.id
        ) f
        where j.id = f.id
            and j.id = any (_ids)
        returning j.id, j.state, j.queue
    )
    select
        array_agg(e.id) filter (where e.state in ('succeeded', 'dead', 'cancelled')),
        array_agg(e.id) filter (where e.state = 'dead'),
        array_agg(distinct e.queue) filter (where e.state = 'ready')
    into _ended, _dead, _queues
    from ended e;

    if _dead is not null then
        _dead := jobrunner.died_v1(_dead);
        _ended := array(select e.id from unnest(_ended) e (id) where e.id <> all (_dead));
    end if;
    if cardinality(_ended) > 0 then
        perform jobrunner.depart_v1(_ended, _runner, _now);
    end if;
    perform jobrunner.wake(_queues);
    return _ids;
end
$$;
