-- How much waits in each queue, and who reads it?
select
    j.queue,
    count(*) filter (where j.state = 'ready') as ready,
    count(*) filter (where j.state = 'scheduled' and j.failures = 0) as scheduled,
    count(*) filter (where j.state = 'scheduled' and j.failures > 0) as retrying,
    count(*) filter (where j.state = 'blocked') as blocked,
    count(*) filter (where j.state = 'running') as running,
    count(*) filter (where j.state = 'dead') as dead,
    (select q.paused_at from jobrunner.queues q where q.name = j.queue) as paused_at,
    (
        select count(*)
        from jobrunner.v_runner r
        where r.state = 'alive'
            and (r.queues is null or j.queue = any (r.queues))
    ) as runners
from jobrunner.jobs j
group by j.queue
order by ready desc, j.queue;
