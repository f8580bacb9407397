-- Jobs by name (of the queue, the task or the lock) and status, live and kept.
select c.name, sum(c.jobs)::bigint as jobs_count, json_object_agg(c.status, c.jobs) as stats
from jobrunner.procrastinate_counts_v1(%(by)s, %(queue)s, %(task)s, %(status)s, %(lock)s) c
group by c.name
order by c.name collate "C"
