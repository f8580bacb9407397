-- What became of one event? Say which (an id or a position; else the latest one) before the file: psql -c "set jobrunner.event = '42'" -f …
with wanted as materialized (
    select nullif(current_setting('jobrunner.event', true), '') as ref
),
ev as materialized (
    select v.position, v.event_id, v.type, v.key, v.recorded_at, coalesce(v.correlation_id, v.event_id) as correlation_id
    from jobrunner.v_event v
    cross join wanted w
    where v.position = case
            when w.ref is null then (select h.position from jobrunner.v_log_head h)
            when w.ref ~ '^[0-9]{1,18}$' then w.ref::bigint
        end
        or v.event_id = case when w.ref ~ '^[0-9a-fA-F-]{36}$' then w.ref::uuid end
)
select
    ev.position, ev.event_id, ev.type, ev.key, ev.recorded_at, j.id as job_id, j.task as subscription, j.state, j.blocked_on, j.attempt,
    j.started_at - j.created_at as waited, j.finished_at - j.started_at as ran, left(j.error, 120) as error
from ev
left join jobrunner.v_job_link l on l.correlation_id = ev.correlation_id and l.cause_event = ev.event_id
left join jobrunner.v_job j on j.id = l.job_id
where j.id is null
    or j.cause_job_id is null                    -- the deliveries, and not what their handlers enqueued
order by ev.position, j.task, j.id;
