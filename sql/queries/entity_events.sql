-- The history of one key, oldest first, behind a position.
select
    e.position, e.recorded_at, e.event_id, e.type, e.version, e.source, e.subject, e.key, e.occurred_at, e.data::text, e.headers::text,
    coalesce(e.correlation_id, e.event_id), e.cause_event, e.cause_job_id
from jobrunner.events e
where e.key = %(key)s
    and e.position > %(after)s
    and (%(types)s::text[] is null or '.' || e.type ~ jobrunner.topic_pattern(%(types)s::text[]))
order by e.position
limit %(limit)s
