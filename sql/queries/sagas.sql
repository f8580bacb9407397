-- Sagas, the latest change first, without their state.
select
    g.name, g.key, g.status, g.dead_job_id, g.compensations, g.version, g.reason, g.timeout_at, g.correlation_id, g.created_at,
    g.updated_at, g.finished_at
from jobrunner.v_saga g
where (%(name)s::text is null or g.name = %(name)s::text)
    and (%(key)s::text is null or g.key = %(key)s::text)
    and (%(status)s::text is null or g.status = %(status)s::text)
order by g.updated_at desc, g.name, g.key
limit %(limit)s
