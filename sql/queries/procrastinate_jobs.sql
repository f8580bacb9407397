-- Jobs, live and kept, in the words of procrastinate, with their arguments.
select
    v.id, v.queue_name, v.task_name, v.priority, v.lock, v.queueing_lock, coalesce(j.args, f.args) as args, v.status, v.scheduled_at,
    v.attempts, v.abort_requested, v.worker_id
from jobrunner.v_procrastinate_job v
left join jobrunner.jobs j on j.id = v.id
left join jobrunner.finished_jobs f on f.id = v.id and f.finished_at = v.finished_at
where (%(id)s::bigint is null or v.id = %(id)s)
    and (%(queue)s::text is null or v.queue_name = %(queue)s)
    and (%(task)s::text is null or v.task_name = %(task)s)
    and (%(status)s::text is null or v.status = %(status)s)
    and (%(lock)s::text is null or v.lock = %(lock)s)
    and (%(queueing_lock)s::text is null or v.queueing_lock = %(queueing_lock)s)
    and (%(worker_id)s::bigint is null or v.worker_id = %(worker_id)s)
order by v.id
