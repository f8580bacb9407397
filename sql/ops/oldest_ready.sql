-- Which ready jobs have been due the longest, and why are they not running?
select o.id, o.queue, o.task, o.priority, now() - o.run_at as waited, jobrunner.why(o.id) as why
from (
    select j.id, j.queue, j.task, j.priority, j.run_at
    from jobrunner.v_job j
    where j.state = 'ready'
    order by j.run_at, j.id
    limit 20
) o
order by o.run_at, o.id;
