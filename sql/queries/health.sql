-- The job at the front of each queue that is not paused, and for how long it has been due. One index probe a queue:
-- cheap enough for a probe every few seconds, whatever the backlog. The front is by priority, so it is not always the oldest.
with recursive fronts as (
    (
        select j.queue, j.id, j.run_at
        from jobrunner.jobs j
        where j.state = 'ready'
        order by j.queue, j.priority desc, j.seq
        limit 1
    )
    union all
    select n.queue, n.id, n.run_at
    from fronts f
    cross join lateral (
        select j.queue, j.id, j.run_at
        from jobrunner.jobs j
        where j.state = 'ready'
            and j.queue > f.queue
        order by j.queue, j.priority desc, j.seq
        limit 1
    ) n
)
select f.queue, f.id, now() - f.run_at as waited
from fronts f
where not exists (
    select
    from jobrunner.queues q
    where q.name = f.queue
        and q.paused_at is not null
)
order by waited desc
