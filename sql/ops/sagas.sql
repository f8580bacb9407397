-- Which sagas need a person or are still open? stuck: a timeout is overdue or a delivery dead; needs_attention: a compensation is dead.
select
    g.name, g.key, g.status, g.dead_job_id, g.compensations, now() - g.updated_at as unchanged_for, g.timeout_at, g.reason
from jobrunner.v_saga g
where g.finished_at is null
order by g.status in ('stuck', 'needs_attention') desc, g.updated_at
limit 50;
