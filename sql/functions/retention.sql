-- For how long the days of a table are kept (finished_jobs, events); null for any other.
create or replace function jobrunner.retention(_table text)
returns interval
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select (s.value #>> '{}')::interval
    from jobrunner.settings s
    where s.name = case _table when 'finished_jobs' then 'retention_finished' when 'events' then 'retention_events' end
$$;
