-- Drops what nobody needs any more: tombstones of runners after a day, when nothing runs under their ids; unique keys and requests
-- to cancel of jobs that are over, or that somebody deleted by hand; what people changed long ago (retention_audit); tasks that
-- no runner has, that none brought for 90 days (only a start is noted) and that no job is waiting for.
create or replace function jobrunner.drop_leftovers_v1()
returns void
language sql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    with keys as (
        delete from jobrunner.unique_keys u
        where not exists (select from jobrunner.jobs j where j.id = u.job_id)
    ),
    requests as (
        delete from jobrunner.cancel_requests c
        where not exists (select from jobrunner.jobs j where j.id = c.job_id)
    ),
    changes as (
        delete from jobrunner.audit a
        where a.at < now() - (select (s.value #>> '{}')::interval from jobrunner.settings s where s.name = 'retention_audit')
    ),
    forgotten as (
        delete from jobrunner.tasks t
        where t.name = any (array(
            select x.name
            from jobrunner.tasks x
            where x.seen_at < now() - interval '90 days'
                and not exists (select from jobrunner.runner_tasks r where r.task = x.name)
                and not exists (select from jobrunner.jobs j where j.task = x.name)
            for update skip locked               -- a runner that starts takes them one by one: it must never wait in a circle
        ))
    )
    delete from jobrunner.runners r
    where r.lost_at < now() - interval '1 day'
        and not exists (select from jobrunner.jobs j where j.runner_id = r.id and j.state = 'running')
$$;
