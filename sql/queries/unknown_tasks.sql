-- Tasks and versions that jobs wait for and no live runner knows: of the parked jobs, and of the first 1000 ready ones of
-- each queue that a live runner reads and that is not paused. `ready` counts those among them that nobody has parked yet.
with recursive queues as (
    (
        select j.queue
        from jobrunner.jobs j
        where j.state = 'ready'
        order by j.queue
        limit 1
    )
    union all
    select n.queue
    from queues q
    cross join lateral (
        select j.queue
        from jobrunner.jobs j
        where j.state = 'ready'
            and j.queue > q.queue
        order by j.queue
        limit 1
    ) n
),
alive as materialized (
    select r.runner as id, r.queues
    from jobrunner.v_runner r
    where r.state = 'alive'
),
front as materialized (
    select q.queue, f.task, f.version, count(*) as jobs, min(f.created_at) as since
    from queues q
    cross join lateral (
        select j.task, j.version, j.created_at
        from jobrunner.jobs j
        where j.queue = q.queue
            and j.state = 'ready'
        order by j.priority desc, j.seq
        limit 1000
    ) f
    where exists (select from alive a where a.queues is null or q.queue = any (a.queues))
        and not exists (select from jobrunner.queues p where p.name = q.queue and p.paused_at is not null)
    group by q.queue, f.task, f.version
),
waiting as (
    select j.queue, j.task, j.version, count(*) as jobs, 0 as ready, min(j.created_at) as since
    from jobrunner.jobs j
    where j.blocked_on = 'task'
        and not exists (select from jobrunner.subscriptions s where s.name = j.task and s.paused_at is not null)   -- put aside, not unknown
    group by j.queue, j.task, j.version
    union all
    select f.queue, f.task, f.version, f.jobs, f.jobs, f.since
    from front f
    where not exists (
        select
        from alive a
        join jobrunner.runner_tasks t on t.runner_id = a.id
        where t.task = f.task
            and t.version >= f.version
    )
)
select w.queue, w.task, w.version, sum(w.jobs)::bigint as jobs, sum(w.ready)::bigint as ready, now() - min(w.since) as oldest
from waiting w
group by w.queue, w.task, w.version
order by jobs desc, w.queue, w.task, w.version
