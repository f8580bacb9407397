-- Every event that this connection sees, oldest first: the log, and behind it what still lies in the outbox, without a position.
select
    e.position, e.recorded_at, e.event_id, e.type, e.version, e.source, e.subject, e.key, e.occurred_at, e.data::text, e.headers::text,
    coalesce(e.correlation_id, e.event_id), e.cause_event, e.cause_job_id
from (
    select
        l.position, l.recorded_at, l.event_id, l.type, l.version, l.source, l.subject, l.key, l.occurred_at, l.data, l.headers,
        l.correlation_id, l.cause_event, l.cause_job_id, 0 as id
    from jobrunner.events l
    union all
    select
        0, o.occurred_at, o.event_id, o.type, o.version, o.source, o.subject, o.key, o.occurred_at, o.data, o.headers, o.correlation_id,
        o.cause_event, o.cause_job_id, o.id
    from jobrunner.outbox o
) e
order by e.id, e.position
