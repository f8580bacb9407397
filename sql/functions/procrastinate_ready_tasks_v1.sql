-- The tasks of the first thousand ready jobs: for a worker that did not say which tasks it has. No subscription's.
create or replace function jobrunner.procrastinate_ready_tasks_v1()
returns text[]
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select array(
        select distinct x.task
        from (select j.task from jobrunner.jobs j where j.state = 'ready' limit 1000) x
        where not exists (select from jobrunner.subscriptions s where s.name = x.task)
    )
$$;
