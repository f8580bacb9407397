-- Jobs, live and kept, in the words of procrastinate and with their arguments; null is no condition. Planned anew for each call: with
-- a plan for all of them, the look at one id would read everything.
create or replace function jobrunner.procrastinate_jobs_v1(
    _id bigint, _queue text default null, _task text default null, _status text default null, _lock text default null,
    _queueing_lock text default null, _worker bigint default null
)
returns table (
    id bigint, queue_name text, task_name text, priority integer, lock text, queueing_lock text, args jsonb, status text,
    scheduled_at timestamptz, attempts integer, abort_requested boolean, worker_id bigint
)
language plpgsql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
    return query
    select
        v.id, v.queue_name, v.task_name, v.priority, v.lock, v.queueing_lock, coalesce(j.args, f.args), v.status, v.scheduled_at,
        v.attempts, v.abort_requested, v.worker_id
    from jobrunner.v_procrastinate_job v
    left join jobrunner.jobs j on j.id = v.id
    left join jobrunner.finished_jobs f on f.id = v.id and f.finished_at = v.finished_at
    where (_id is null or v.id = _id)
        and (_queue is null or v.queue_name = _queue)
        and (_task is null or v.task_name = _task)
        and (_status is null or v.status = _status)
        and (_lock is null or v.lock = _lock)
        and (_queueing_lock is null or v.queueing_lock = _queueing_lock)
        and (_worker is null or v.worker_id = _worker)
    order by v.id;
end
$$;
