-- The ids of jobs that run and that somebody asked to stop.
create or replace function jobrunner.procrastinate_to_abort_v1(_queue text)
returns bigint[]
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select array(
        select c.job_id
        from jobrunner.cancel_requests c
        cross join lateral (
            select j.queue
            from jobrunner.jobs j
            where j.id = c.job_id
                and j.runner_id is not null
            limit 1
        ) j
        where _queue is null
            or j.queue = _queue
        order by c.job_id
    )
$$;
