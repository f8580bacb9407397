-- One event by its position or its id, also while it waits in the outbox: then it has no position yet.
select
    x.position, x.recorded_at, x.occurred_at, x.type, x.version, x.source, x.subject, x.key, x.event_id,
    coalesce(x.correlation_id, x.event_id) as correlation_id, x.cause_event, x.cause_job_id, pg_column_size(x.data) as bytes,
    x.data, x.headers
from (
    select
        e.position, e.recorded_at, e.occurred_at, e.type, e.version, e.source, e.subject, e.key, e.event_id, e.correlation_id,
        e.cause_event, e.cause_job_id, e.data, e.headers
    from jobrunner.events e
    where e.position = %(position)s::bigint
    union all
    select
        e.position, e.recorded_at, e.occurred_at, e.type, e.version, e.source, e.subject, e.key, e.event_id, e.correlation_id,
        e.cause_event, e.cause_job_id, e.data, e.headers
    from jobrunner.events e
    where e.event_id = %(event_id)s::uuid
    union all
    select
        null, null, o.occurred_at, o.type, o.version, o.source, o.subject, o.key, o.event_id, o.correlation_id,
        o.cause_event, o.cause_job_id, o.data, o.headers
    from jobrunner.outbox o
    where o.event_id = %(event_id)s::uuid
) x
order by x.position                              -- a publisher may have used an id twice
limit 1
