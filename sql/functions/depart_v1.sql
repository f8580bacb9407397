-- Takes jobs that have ended in place (succeeded, cancelled, dead) out of the way: passes the turn of their keys, gives up
-- their unique keys, moves succeeded and cancelled ones to history (dead ones stay). Returns how many it took care of; a row
-- that is locked, or whose next in line is, is left for the next call. Statements apart on purpose: the lock holds every seat
-- step off the rows, and only a snapshot taken after the lock sees every waiter that was seated behind them. In one statement
-- waiters were lost in seconds.
create or replace function jobrunner.depart_v1(_ids bigint[], _runner bigint default null, _now timestamptz default null)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    _held  bigint[];
    _queues text[];
begin
    perform jobrunner.require_read_committed();
    _now := coalesce(_now, now());
    perform jobrunner.ensure_partition(_now);

    select array_agg(l.id)
    into _held
    from (
        select j.id
        from jobrunner.jobs j
        where j.id = any (_ids)
            and coalesce(j.finished_at, '-infinity') > '-infinity'         -- bare, it would make the index on all that ended eligible
        order by j.id
        for update skip locked
    ) l;
    _held := jobrunner.may_end_v1(_held, _held);
    if coalesce(cardinality(_held), 0) = 0 then
        return 0;
    end if;

    with me as materialized (
        select j.id, j.key, j.key_pos
        from jobrunner.jobs j
        where j.id = any (_held)
            and j.holds_key
    ),
    next as materialized (
        select n.id
        from me
        cross join lateral (
            select w.id
            from jobrunner.jobs w
            where w.key = me.key
                and w.blocked_on = 'key'
                and w.key_pos > me.key_pos
            order by w.key_pos
            limit 1
        ) n                                      -- may_end_v1 holds it
    ),
    turn as (
        update jobrunner.jobs j
        set state = 'ready',
            blocked_on = null,
            holds_key = true,
            seq = jobrunner.stamp()
        where j.id = any (array(select n.id from next n))          -- not a join: seat_rows_v1 says why
        returning j.queue
    ),
    buried as (
        update jobrunner.jobs j
        set holds_key = false,
            key_pos = null,
            unique_until = null
        where j.id = any (_held)
            and j.state = 'dead'
            and (j.holds_key or j.unique_until is not null)
    ),
    given_up as (
        delete from jobrunner.unique_keys u
        where u.job_id = any (_held)
    ),
    gone as (
        delete from jobrunner.jobs j
        where j.id = any (_held)
            and j.state in ('succeeded', 'cancelled')
        returning j.id, j.run_at, j.created_at, j.started_at, j.finished_at, j.attempt, j.failures, j.max_attempts, j.crashes,
            j.version, j.priority, j.state, j.queue, j.task, j.key, j.args, j.headers, j.reason, j.error
    ),
    kept as (
        insert into jobrunner.finished_jobs (
            id, run_at, created_at, started_at, finished_at, runner_id, attempt, failures, max_attempts, crashes,
            version, priority, state, queue, task, key, args, headers, reason, error
        )
        select
            g.id, g.run_at, g.created_at, g.started_at, _now, _runner, g.attempt, g.failures, g.max_attempts, g.crashes,
            g.version, g.priority, g.state, g.queue, g.task, g.key, g.args, g.headers, g.reason, g.error
        from gone g
    )
    select array_agg(distinct t.queue) into _queues from turn t;

    perform jobrunner.wake(_queues);
    return cardinality(_held);
end
$$;
