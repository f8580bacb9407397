-- How many jobs of each status procrastinate's table has, without what closes a lock; and how many of its workers are alive.
select
    (
        select coalesce(jsonb_object_agg(c.status, c.n), '{}')
        from (
            select j.status, count(*) as n
            from procrastinate_jobs j
            where not (j.status = 'todo' and j.task_name = 'jobrunner.adopt')
            group by j.status
        ) c
    ) as jobs,
    (select count(*) from procrastinate_workers w where w.last_heartbeat > now() - interval '1 minute') as workers
