-- What waits in procrastinate's table, by task and queue, and what of it jobrunner would refuse.
select
    w.task_name as task,
    w.queue_name as queue,
    count(*) as jobs,
    count(*) filter (where w.scheduled_at > now()) as scheduled,
    count(w.lock) as locked,
    count(w.running) as running,
    count(w.problem) as refused,
    min(w.problem) as problem
from (
    select
        j.task_name,
        j.queue_name,
        j.scheduled_at,
        j.lock,
        case when exists (select from procrastinate_jobs d where d.lock = j.lock and d.status = 'doing') then true end as running,
        coalesce(
            case when j.priority not between -32768 and 32767 then 'priority must be between -32768 and 32767' end,
            jobrunner.call_problem(j.task_name, j.args, j.queue_name, 1::smallint, 1000, '{}'),
            jobrunner.option_problem(j.scheduled_at, null, j.lock, j.queueing_lock, null, 'start')
        ) as problem
    from procrastinate_jobs j
    where j.status = 'todo'
        and j.task_name <> 'jobrunner.adopt'
) w
group by w.task_name, w.queue_name
order by count(*) desc, w.task_name, w.queue_name
