-- Dead jobs, the latest first; the next page goes on behind the death of %(after)s at %(after_at)s. Times are ages: how long ago.
select
    d.id, 'dead' as state, null as blocked_on, d.queue, d.task, d.version, d.priority, d.run_at, d.attempt, d.failures, d.crashes,
    d.max_attempts, d.key, d.subject, null::bigint as runner_id, d.created_at, d.started_at, d.died_at as finished_at, d.reason, d.error,
    d.total, d.processed, d.failed, d.message, d.progress_since, d.progress_at
from jobrunner.v_dead d
where (%(queue)s::text is null or d.queue = %(queue)s::text)
    and (%(task)s::text is null or d.task = %(task)s::text)
    and (%(error)s::text is null or position(lower(%(error)s::text) in lower(d.error)) > 0)
    and (%(older_than)s::interval is null or d.died_at <= now() - %(older_than)s::interval)
    and (%(newer_than)s::interval is null or d.died_at > now() - %(newer_than)s::interval)
    and (%(after)s::bigint is null or (d.died_at, d.id) < (%(after_at)s::timestamptz, %(after)s::bigint))
order by d.died_at desc, d.id desc
limit %(limit)s
