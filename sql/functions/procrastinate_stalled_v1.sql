-- Jobs that have been running for _running, or whose runner has been gone or silent for _silent; null is no condition.
create or replace function jobrunner.procrastinate_stalled_v1(_running interval, _silent interval, _queue text, _task text)
returns table (
    id bigint, status text, task_name text, priority integer, lock text, queueing_lock text, args jsonb, scheduled_at timestamptz,
    queue_name text, attempts integer, worker_id bigint, started_at timestamptz
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
        j.id, 'doing', j.task::text, j.priority::integer, j.key::text, j.headers ->> 'queueing_lock', j.args,
        case when j.run_at > j.created_at then j.run_at end, j.queue::text, j.attempt - 1, j.runner_id, j.started_at
    from jobrunner.jobs j
    left join jobrunner.runners r on r.id = j.runner_id
    where j.state = 'running'
        and (_running is null or j.started_at < now() - _running)
        and (_silent is null or r.id is null or r.lost_at is not null or r.beat_at < now() - _silent)
        and (_queue is null or j.queue = _queue)
        and (_task is null or j.task = _task)
    order by j.id;
end
$$;
