-- One job wherever it is, without what job_payload.sql and job_attempts.sql read.
select
    p.id, p.state, p.blocked_on, p.queue, p.task, p.version, p.priority, p.run_at, p.attempt, p.failures, p.crashes,
    p.max_attempts, p.key, p.subject, p.runner_id, p.created_at, p.started_at, p.finished_at, p.reason, p.error,
    p.total, p.processed, p.failed, p.message, p.progress_since, p.progress_at,
    p.unique_key, p.correlation_id, p.cause_job_id, p.cause_event, p.parent_id,
    r.host as runner_host, r.pid as runner_pid, p.cancel_requested_at, p.cancel_requested_by,
    jobrunner.why(p.id) as why
from jobrunner.v_job p
left join jobrunner.v_runner r on r.runner = p.runner_id
where p.id = %(id)s
limit 1
