-- The log without payloads, the newest event first, below %(after)s. A filter that is null disappears when the statement is planned,
-- because it is planned with its values.
select
    e.position, e.recorded_at, e.occurred_at, e.type, e.version, e.source, e.subject, e.key, e.event_id,
    coalesce(e.correlation_id, e.event_id) as correlation_id, e.cause_event, e.cause_job_id, e.bytes,
    null::jsonb as data,
    null::jsonb as headers
from jobrunner.v_event e
where (%(after)s::bigint is null or e.position < %(after)s::bigint)
    and (%(type)s::text is null or e.type = %(type)s::text)
    and (%(patterns)s::text[] is null or '.' || e.type ~ jobrunner.topic_pattern(%(patterns)s::text[]))
    and (%(key)s::text is null or e.key = %(key)s::text)
    and (%(subject)s::text is null or e.subject = %(subject)s::text)
    and (%(since)s::interval is null or e.recorded_at >= now() - %(since)s::interval)
order by e.position desc
limit %(limit)s
