-- Everything about one job but its attempts, wherever it is.
select
    p.id, p.state, p.blocked_on, p.queue, p.task, p.version, p.priority, p.run_at, p.attempt, p.failures, p.crashes,
    p.max_attempts, p.key, l.subject, p.runner_id, p.created_at, p.started_at, p.finished_at, p.reason, p.error,
    g.total, g.processed, g.failed, g.message, g.started_at as progress_since, g.updated_at as progress_at,
    p.args, p.headers, u.unique_key, l.correlation_id, l.cause_job_id, l.cause_event, l.parent_id, o.result,
    r.host as runner_host, r.pid as runner_pid, c.requested_at as cancel_requested_at, c.actor as cancel_requested_by,
    jobrunner.why(p.id) as why
from (
    select
        j.id, j.state, j.blocked_on, j.queue, j.task, j.version, j.priority, j.run_at, j.attempt, j.failures, j.crashes,
        j.max_attempts, j.key, j.runner_id, j.created_at, j.started_at, j.finished_at, j.reason, j.error, j.args, j.headers
    from jobrunner.jobs j
    where j.id = %(id)s
    union all
    select
        j.id, j.state, null, j.queue, j.task, j.version, j.priority, j.run_at, j.attempt, j.failures, j.crashes,
        j.max_attempts, j.key, j.runner_id, j.created_at, j.started_at, j.finished_at, j.reason, j.error, j.args, j.headers
    from jobrunner.finished_jobs j
    where j.id = %(id)s
) p
left join jobrunner.job_links l on l.job_id = p.id
left join jobrunner.unique_keys u on u.job_id = p.id
left join jobrunner.job_progress g on g.job_id = p.id
left join jobrunner.job_results o on o.job_id = p.id
left join jobrunner.runners r on r.id = p.runner_id
left join jobrunner.cancel_requests c on c.job_id = p.id
limit 1
