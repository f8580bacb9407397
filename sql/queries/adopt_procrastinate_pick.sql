-- The next jobs that wait in procrastinate's table, in the order in which it would run them, held against its workers until the end of
-- the transaction; how far the look went; how many it saw, those included that somebody else holds.
with looked as materialized (
    (
        select j.id, j.priority
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
        select j.id, j.priority
        from procrastinate_jobs j
        where j.status = 'todo'
            and j.priority < %(priority)s
            and j.task_name <> 'jobrunner.adopt'
        order by j.priority desc, j.id
        limit %(n)s
    )
    limit %(n)s
),
held as (
    select j.id
    from procrastinate_jobs j
    where j.id = any (array(select l.id from looked l))
        and j.status = 'todo'
    for update skip locked
)
select
    array(select h.id from held h) as ids,
    (select count(*) from looked) as seen,
    (select l.priority from looked l order by l.priority, l.id desc limit 1) as priority,
    (select l.id from looked l order by l.priority, l.id desc limit 1) as id
