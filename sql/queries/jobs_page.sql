-- Jobs and history, the newest id first, below %(after)s. The view gives each table its own index; a filter that is null
-- disappears when the statement is planned, because it is planned with its values. The ids of a subject are looked up first.
select
    p.id, p.state, p.blocked_on, p.queue, p.task, p.version, p.priority, p.run_at, p.attempt, p.failures, p.crashes,
    p.max_attempts, p.key, p.subject, p.runner_id, p.created_at, p.started_at, p.finished_at, p.reason, p.error,
    p.total, p.processed, p.failed, p.message, p.progress_since, p.progress_at
from jobrunner.v_job p
where (%(after)s::bigint is null or p.id < %(after)s::bigint)
    and (%(state)s::text is null or p.state = %(state)s::text)
    and (%(queue)s::text is null or p.queue = %(queue)s::text)
    and (%(task)s::text is null or p.task = %(task)s::text)
    and (%(key)s::text is null or p.key = %(key)s::text)
    and (%(since)s::interval is null or p.created_at >= now() - %(since)s::interval)
    and (
        %(subject)s::text is null
        or p.id = any (array(select s.job_id from jobrunner.v_job_link s where s.subject = %(subject)s::text))
    )
order by p.id desc
limit %(limit)s
