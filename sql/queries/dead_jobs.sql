-- Dead jobs, the latest first. Times are ages: how long ago the job died.
select
    j.id, j.state, j.blocked_on, j.queue, j.task, j.version, j.priority, j.run_at, j.attempt, j.failures, j.crashes,
    j.max_attempts, j.key, l.subject, j.runner_id, j.created_at, j.started_at, j.finished_at, j.reason, j.error,
    g.total, g.processed, g.failed, g.message, g.started_at as progress_since, g.updated_at as progress_at
from jobrunner.jobs j
left join jobrunner.job_links l on l.job_id = j.id
left join jobrunner.job_progress g on g.job_id = j.id
where j.state = 'dead'
    and j.finished_at is not null
    and (%(queue)s::text is null or j.queue = %(queue)s::text)
    and (%(task)s::text is null or j.task = %(task)s::text)
    and (%(error)s::text is null or position(lower(%(error)s::text) in lower(j.error)) > 0)
    and (%(older_than)s::interval is null or j.finished_at <= now() - %(older_than)s::interval)
    and (%(newer_than)s::interval is null or j.finished_at > now() - %(newer_than)s::interval)
order by j.finished_at desc, j.id desc
limit %(limit)s
