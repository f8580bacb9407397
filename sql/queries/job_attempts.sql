-- The starts of one job that did not succeed, the first one first.
select
    a.attempt, a.outcome, a.reason, a.started_at, a.ended_at, a.runner_id, a.error_type, a.message, a.traceback
from jobrunner.v_attempt a
where a.job_id = %(id)s
order by a.attempt
