-- Every task that a runner ever registered, and how many live runners know it now.
select
    t.name, t.queue, t.version, t.priority, t.max_attempts, t.seen_at,
    (
        select count(*)
        from jobrunner.v_runner r
        join jobrunner.runner_tasks k on k.runner_id = r.runner
        where r.state = 'alive'
            and k.task = t.name
    ) as runners
from jobrunner.tasks t
order by t.name
limit %(limit)s
