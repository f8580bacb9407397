-- Jobs by queue and status, live and kept.
select c.name, sum(c.jobs)::bigint as jobs_count, json_object_agg(c.status, c.jobs) as stats
from (
    select v.queue_name as name, v.status, count(*) as jobs
    from jobrunner.v_procrastinate_job v
    where (%(queue)s::text is null or v.queue_name = %(queue)s)
        and (%(task)s::text is null or v.task_name = %(task)s)
        and (%(status)s::text is null or v.status = %(status)s)
        and (%(lock)s::text is null or v.lock = %(lock)s)
    group by v.queue_name, v.status
) c
group by c.name
order by c.name
