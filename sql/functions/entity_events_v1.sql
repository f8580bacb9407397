-- The history of one key, oldest first, behind the position _after; with _types only events of types that match these patterns.
create or replace function jobrunner.entity_events_v1(_key text, _after bigint, _types text[], _limit integer)
returns table (
    "position" bigint, recorded_at timestamptz, event_id uuid, type text, version smallint, source text, subject text, key text,
    occurred_at timestamptz, data text, headers text, correlation_id uuid, cause_event uuid, cause_job_id bigint
)
language plpgsql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select
        e.position, e.recorded_at, e.event_id, e.type, e.version, e.source, e.subject, e.key, e.occurred_at, e.data::text,
        e.headers::text, coalesce(e.correlation_id, e.event_id), e.cause_event, e.cause_job_id
    from jobrunner.events e
    where e.key = _key
        and e.position > _after
        and (_types is null or '.' || e.type ~ jobrunner.topic_pattern(_types))
    order by e.position
    limit _limit;
end
$$;
