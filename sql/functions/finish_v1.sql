-- The hot end of a job: moves successes without a key into history and returns the ids that are settled now. Fenced by
-- (id, attempt, runner); an id that is not returned was settled before, is stale, or waits in settle_v1's care (key).
-- _results, when given, has one JSON value or null for each id. Atomic; safe to repeat. Sorted ids, please (lock order).
--
-- runner_id + 0: naming the column bare made the index on runners eligible, and one plan flip took 25,000 jobs/s to 130.
create or replace function jobrunner.finish_v1(
    _runner   bigint,
    _ids      bigint[],
    _attempts integer[],
    _results  jsonb[]     default null,
    _now      timestamptz default null
)
returns bigint[]
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
set lock_timeout = '250ms'
as $$
declare
    _same integer := case when _attempts[1] = all (_attempts) then _attempts[1] end;
    _done bigint[];
begin
    perform jobrunner.ensure_partition(coalesce(_now, now()));
    with gone as (
        delete from jobrunner.jobs j
        where j.id = any (_ids)
            -- Not a join, which could read every job (seat_rows_v1 did); and nearly every batch is of one attempt.
            and j.attempt = case when _same is null then _attempts[array_position(_ids, j.id)] else _same end
            and j.runner_id + 0 = _runner
            and j.key is null
        returning j.id, j.run_at, j.created_at, j.started_at, j.runner_id, j.attempt, j.failures, j.max_attempts, j.crashes,
            j.version, j.priority, j.queue, j.task, j.args, j.headers, j.unique_until
    ),
    given_up as (
        delete from jobrunner.unique_keys u
        using gone g
        where g.unique_until = 'finish'
            and u.job_id = g.id
    ),
    kept as (
        insert into jobrunner.finished_jobs (
            id, run_at, created_at, started_at, finished_at, runner_id, attempt, failures, max_attempts, crashes,
            version, priority, state, queue, task, args, headers
        )
        select
            g.id, g.run_at, g.created_at, g.started_at, coalesce(_now, now()), g.runner_id, g.attempt, g.failures, g.max_attempts, g.crashes,
            g.version, g.priority, 'succeeded', g.queue, g.task, g.args, g.headers
        from gone g
        returning id
    )
    select coalesce(array_agg(k.id), '{}') into _done from kept k;

    if _results is not null then
        insert into jobrunner.job_results (job_id, result)
        select f.id, f.result
        from unnest(_ids, _results) f (id, result)
        where f.result is not null
            and f.id = any (_done)
        on conflict (job_id) do update
        set result = excluded.result;
    end if;
    return _done;
end
$$;
