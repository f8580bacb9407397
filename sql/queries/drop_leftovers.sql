-- What nobody needs any more: tombstones of runners after a day, when nothing runs under their ids; unique keys and requests
-- to cancel of jobs that are over, or that somebody deleted by hand.
with keys as (
    delete from jobrunner.unique_keys u
    where not exists (select from jobrunner.jobs j where j.id = u.job_id)
),
requests as (
    delete from jobrunner.cancel_requests c
    where not exists (select from jobrunner.jobs j where j.id = c.job_id)
)
delete from jobrunner.runners r
where r.lost_at < now() - interval '1 day'
    and not exists (select from jobrunner.jobs j where j.runner_id = r.id and j.state = 'running')
