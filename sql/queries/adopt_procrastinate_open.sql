-- Opens locks in procrastinate's table again, but those of which a job is left here while a worker is alive or another job waits
-- there. Many at a time, by id; how many it looked at, up to where, and how many stay closed.
with closed as materialized (
    select b.id, b.lock
    from procrastinate_jobs b
    where b.status = 'todo'
        and b.priority = 2147483647
        and b.task_name = 'jobrunner.adopt'
        and b.id > %(id)s
    order by b.id
    limit %(n)s
),
here as materialized (
    select j.key
    from jobrunner.jobs j
    where (j.key in (select c.lock from closed c)) is true          -- bare, it may become a loop over both
        and j.finished_at is null
    group by j.key
),
there as materialized (
    select o.lock
    from procrastinate_jobs o
    where o.status = 'todo'
        and (o.lock in (select h.key from here h)) is true
        and o.task_name <> 'jobrunner.adopt'
    group by o.lock
),
opened as (
    delete from procrastinate_jobs b
    where b.id = any (array(
        select c.id
        from closed c
        where c.lock not in (select h.key from here h)
            or (
                c.lock not in (select t.lock from there t)
                and not exists (select from procrastinate_workers w where w.last_heartbeat > now() - interval '1 minute')
            )
    ))
    returning b.id
)
select
    (select count(*) from closed) as seen,
    (select max(c.id) from closed c) as last,
    (select count(*) from closed) - (select count(*) from opened) as closed
