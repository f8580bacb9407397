-- How many deliveries of a walk over the log wait or run. Reads all of jobs once.
create or replace function jobrunner.replay_open(_subscription text, _replay bigint)
returns bigint
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select count(*)
    from jobrunner.jobs j
    where j.task = _subscription
        and j.state in ('scheduled', 'ready', 'blocked', 'running')
        and j.headers @> jsonb_build_object('replay', _replay)
$$;
