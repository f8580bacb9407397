-- Every queue that somebody named, used or paused, with its jobs by state and the live runners that read it.
-- Reads all of jobs once (a second for some million rows): for people, not for probes (health.sql is).
with counted as materialized (
    select
        j.queue,
        count(*) filter (where j.state = 'ready') as ready,
        count(*) filter (where j.state = 'scheduled' and j.failures = 0) as scheduled,
        count(*) filter (where j.state = 'scheduled' and j.failures > 0) as retrying,
        count(*) filter (where j.state = 'blocked') as blocked,
        count(*) filter (where j.state = 'running') as running,
        count(*) filter (where j.state = 'dead') as dead,
        now() - min(j.run_at) filter (where j.state = 'ready') as oldest_ready
    from jobrunner.jobs j
    group by j.queue
),
named as (
    select c.queue collate "C" as name from counted c
    union
    select q.name from jobrunner.queues q
    union
    select t.queue collate "C" from jobrunner.tasks t
)
select
    n.name,
    q.paused_at,
    q.paused_by,
    case when q.paused_at is not null then (
        select a.reason
        from jobrunner.audit a
        where a.action = 'pause'
            and a.target = 'queue ' || n.name
            and a.at >= q.paused_at
        order by a.id
        limit 1
    ) end as pause_reason,
    q.description,
    coalesce(c.ready, 0) as ready,
    coalesce(c.scheduled, 0) as scheduled,
    coalesce(c.retrying, 0) as retrying,
    coalesce(c.blocked, 0) as blocked,
    coalesce(c.running, 0) as running,
    coalesce(c.dead, 0) as dead,
    case when c.ready > 0 then greatest(c.oldest_ready, interval '0') end as oldest_ready,
    (
        select count(*)
        from jobrunner.v_runner r
        where r.state = 'alive'
            and (r.queues is null or n.name = any (r.queues))
    ) as runners
from named n
left join counted c on c.queue = n.name
left join jobrunner.queues q on q.name = n.name
order by n.name
