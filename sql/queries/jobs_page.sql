-- Jobs and history, the newest id first, below %(after)s. Each arm takes its page from its own index before the two are
-- merged; a filter that is null disappears when the statement is planned, because it is planned with its values.
select
    p.id, p.state, p.blocked_on, p.queue, p.task, p.version, p.priority, p.run_at, p.attempt, p.failures, p.crashes,
    p.max_attempts, p.key, l.subject, p.runner_id, p.created_at, p.started_at, p.finished_at, p.reason, p.error,
    g.total, g.processed, g.failed, g.message, g.started_at as progress_since, g.updated_at as progress_at
from (
    (
        select
            j.id, j.state, j.blocked_on, j.queue, j.task, j.version, j.priority, j.run_at, j.attempt, j.failures, j.crashes,
            j.max_attempts, j.key, j.runner_id, j.created_at, j.started_at, j.finished_at, j.reason, j.error
        from jobrunner.jobs j
        where (%(after)s::bigint is null or j.id < %(after)s::bigint)
            and (%(state)s::text is null or j.state = %(state)s::text)
            and (%(queue)s::text is null or j.queue = %(queue)s::text)
            and (%(task)s::text is null or j.task = %(task)s::text)
            and (%(key)s::text is null or j.key = %(key)s::text)
            and (%(since)s::interval is null or j.created_at >= now() - %(since)s::interval)
            and (
                %(subject)s::text is null
                or j.id = any (array(select s.job_id from jobrunner.job_links s where s.subject = %(subject)s::text))
            )
        order by j.id desc
        limit %(limit)s
    )
    union all
    (
        select
            j.id, j.state, null, j.queue, j.task, j.version, j.priority, j.run_at, j.attempt, j.failures, j.crashes,
            j.max_attempts, j.key, j.runner_id, j.created_at, j.started_at, j.finished_at, j.reason, j.error
        from jobrunner.finished_jobs j
        where (%(after)s::bigint is null or j.id < %(after)s::bigint)
            and (%(state)s::text is null or (j.state = %(state)s::text and %(state)s::text in ('succeeded', 'cancelled')))
            and (%(queue)s::text is null or j.queue = %(queue)s::text)
            and (%(task)s::text is null or j.task = %(task)s::text)
            and (%(key)s::text is null or j.key = %(key)s::text)
            and (%(since)s::interval is null or j.created_at >= now() - %(since)s::interval)
            and (
                %(subject)s::text is null
                or j.id = any (array(select s.job_id from jobrunner.job_links s where s.subject = %(subject)s::text))
            )
        order by j.id desc
        limit %(limit)s
    )
    order by id desc
    limit %(limit)s
) p
left join jobrunner.job_links l on l.job_id = p.id
left join jobrunner.job_progress g on g.job_id = p.id
order by p.id desc
