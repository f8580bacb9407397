-- Every job of a task that this connection sees, over or not, oldest first; of all tasks when it is null.
select
    j.id, j.state, j.task, j.queue, j.priority, j.version, j.max_attempts, j.attempt, j.failures, j.run_at, j.created_at, j.key,
    u.unique_key, u.until, l.subject, j.args, j.headers, j.reason, j.error
from (
    select
        a.id, a.state, a.task, a.queue, a.priority, a.version, a.max_attempts, a.attempt, a.failures, a.run_at, a.created_at, a.key, a.args,
        a.headers, a.reason, a.error
    from jobrunner.jobs a
    union all
    select
        f.id, f.state, f.task, f.queue, f.priority, f.version, f.max_attempts, f.attempt, f.failures, f.run_at, f.created_at, f.key, f.args,
        f.headers, f.reason, f.error
    from jobrunner.finished_jobs f
) j
left join jobrunner.job_links l on l.job_id = j.id
left join jobrunner.unique_keys u on u.job_id = j.id
where j.task = %(task)s
    or %(task)s::text is null
order by j.id
