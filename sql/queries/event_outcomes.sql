-- What became of one event at each subscription: its deliveries, open or over, found by the tree that they belong to; how streams stand
-- to it; and the subscriptions that want its type and have no delivery of it, with the reason that can be told.
with ev as materialized (
    select e.position, e.event_id, coalesce(e.correlation_id, e.event_id) as correlation_id, e.type, e.headers
    from jobrunner.events e
    where e.position = %(position)s
),
links as materialized (
    select l.job_id
    from ev
    join jobrunner.job_links l on l.correlation_id = ev.correlation_id
    where l.cause_event = ev.event_id
),
made as materialized (
    select
        j.id, j.task, j.state, j.blocked_on, j.attempt, j.failures, j.created_at, j.started_at, j.finished_at, j.headers, j.reason, j.error
    from jobrunner.jobs j
    where j.id = any (array(select l.job_id from links l))
        and j.args @> jsonb_build_object('position', %(position)s::bigint)
    union all
    select
        j.id, j.task, j.state, null, j.attempt, j.failures, j.created_at, j.started_at, j.finished_at, j.headers, j.reason, j.error
    from jobrunner.finished_jobs j
    where j.id = any (array(select l.job_id from links l))
        and j.args @> jsonb_build_object('position', %(position)s::bigint)
)
select
    o.subscription, o.mode, o.state, o.blocked_on, o.job_id, o.replay, o.attempt, o.failures, o.waited, o.ran, o.reason, o.error
from (
    select
        m.task as subscription,
        'queue' as mode,
        m.state,
        m.blocked_on,
        m.id as job_id,
        (m.headers ->> 'replay')::bigint as replay,
        m.attempt,
        m.failures,
        greatest(coalesce(m.started_at, m.finished_at, now()) - m.created_at, interval '0') as waited,
        case
            when m.state in ('running', 'succeeded', 'dead', 'cancelled') and m.started_at is not null
                then greatest(coalesce(m.finished_at, now()) - m.started_at, interval '0')
        end as ran,
        m.reason,
        m.error
    from made m
    union all
    select
        s.name,
        s.mode,
        case when c.position >= ev.position then 'passed' when ev.position = any (c.skips) then 'skipped' else 'unread' end,
        null, null, null, null, null, null, null,
        case
            when c.position >= ev.position then 'its cursor is behind it'
            when s.paused_at is not null then 'it is paused'
            else format('its cursor is %%s before it', ev.position - c.position)
        end,
        null
    from ev
    join jobrunner.subscriptions s on '.' || ev.type ~ s.pattern
    join jobrunner.cursors c on c.subscription = s.name
    where s.match is null
        or ev.headers @> s.match
    union all
    select
        s.name,
        s.mode,
        case when w.id is not null then 'to_come' else 'none' end,
        null, null, null, null, null, null, null,
        case
            when w.id is not null then format('walk %%s will come to it', w.id)
            when ev.position <= s.live_from then 'it was recorded before the subscription was live'
            else 'its filter was another then, or the history of the delivery was dropped'
        end,
        null
    from ev
    join jobrunner.subscriptions s on '.' || ev.type ~ s.pattern
    left join lateral (
        select r.id
        from jobrunner.replays r
        where r.subscription = s.name
            and r.state = 'running'
            and r.at_position < ev.position
            and (r.kind in ('catch_up', 'rewind') or r.upto >= ev.position)
        order by r.id
        limit 1
    ) w on true
    where s.mode = 'queue'
        and (s.match is null or ev.headers @> s.match)
        and not exists (select from made m where m.task = s.name)
) o
order by o.subscription, o.job_id
