-- Closes the locks of the next jobs in procrastinate's table: a job before all others of its lock, that is never due, so that no
-- worker of procrastinate takes another of it. Ours is known by its queueing lock, which also makes it the only one.
with next as (
    (
        select j.lock
        from procrastinate_jobs j
        where j.status = 'todo'
            and j.priority = %(priority)s
            and j.id > %(id)s
            and j.task_name <> 'jobrunner.adopt'
        order by j.id
        limit %(n)s
    )
    union all
    (
        select j.lock
        from procrastinate_jobs j
        where j.status = 'todo'
            and j.priority < %(priority)s
            and j.task_name <> 'jobrunner.adopt'
        order by j.priority desc, j.id
        limit %(n)s
    )
    limit %(n)s
),
closed as (
    insert into procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, scheduled_at)
    select 'jobrunner', 'jobrunner.adopt', 2147483647, n.lock, 'jobrunner.adopt ' || n.lock, '3000-01-01 00:00:00+00'
    from next n
    where octet_length(n.lock) between 1 and 512           -- of a longer one nothing can be moved
    group by n.lock
    order by n.lock
    on conflict (queueing_lock) where status = 'todo' do nothing
    returning id
)
select count(*) from closed
