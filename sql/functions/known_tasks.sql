-- The names of the tasks that a runner ever registered.
create or replace function jobrunner.known_tasks()
returns setof text
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select t.name
    from jobrunner.tasks t
    order by t.name
$$;
