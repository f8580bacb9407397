-- Jobs that run and that somebody asked to stop.
select c.job_id as id
from jobrunner.cancel_requests c
cross join lateral (
    select j.queue
    from jobrunner.jobs j
    where j.id = c.job_id
        and j.runner_id is not null
    limit 1
) j
where %(queue)s::text is null
    or j.queue = %(queue)s
