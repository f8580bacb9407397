-- Every task that a runner registered or that ran lately, how many live runners know it, and how its starts of the last hour went.
-- Reads an hour of history and of attempts.
select t.task as name, t.queue, t.version, t.max_attempts, t.last_known, t.runners, t.n_1h, t.failed_1h, t.p50_s, t.p95_s
from jobrunner.v_task t
order by t.task
limit %(limit)s
