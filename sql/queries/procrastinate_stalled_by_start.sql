-- Jobs that have been running for long.
select
    j.id, 'doing' as status, j.task as task_name, j.priority, j.key as lock, j.headers ->> 'queueing_lock' as queueing_lock, j.args,
    case when j.run_at > j.created_at then j.run_at end as scheduled_at, j.queue as queue_name, j.attempt - 1 as attempts,
    j.runner_id as worker_id, j.started_at
from jobrunner.jobs j
where j.state = 'running'
    and j.started_at < now() - make_interval(secs => %(seconds)s)
    and (%(queue)s::text is null or j.queue = %(queue)s)
    and (%(task)s::text is null or j.task = %(task)s)
order by j.id
