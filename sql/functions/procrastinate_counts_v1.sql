-- How many jobs of each status there are, live and kept, by queue, task or lock (_by; null: all of them as one).
create or replace function jobrunner.procrastinate_counts_v1(
    _by text, _queue text default null, _task text default null, _status text default null, _lock text default null
)
returns table (name text, status text, jobs bigint)
language plpgsql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
    return query
    select n.name, v.status, count(*)
    from jobrunner.v_procrastinate_job v
    cross join lateral (
        select case _by when 'queue' then v.queue_name when 'task' then v.task_name when 'lock' then v.lock end as name
    ) n
    where (_queue is null or v.queue_name = _queue)
        and (_task is null or v.task_name = _task)
        and (_status is null or v.status = _status)
        and (_lock is null or v.lock = _lock)
        and (_by is distinct from 'lock' or v.lock is not null)
    group by n.name, v.status
    order by n.name collate "C", v.status;
end
$$;
