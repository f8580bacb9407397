-- Moves the jobs that adopt_procrastinate_pick holds, in a later snapshot than its own: writes them here and deletes them there. One of
-- a lock moves only when the lock is closed to procrastinate's workers (and settled: none of them could have missed that), none
-- of it runs there, and none before it stays. What waits in a lock behind one with a time keeps its place behind it, which procrastinate does by
-- waiting too: its own time is then a microsecond later. That time is kept with what closes the lock, for the next batch.
with me as materialized (
    select
        j.*,
        b.id as barrier,
        (b.args ->> 'until')::timestamptz as until,
        row_number() over line as n,
        max(j.scheduled_at) filter (where j.lock is not null) over (line rows between unbounded preceding and 1 preceding) as before
    from procrastinate_jobs j
    left join procrastinate_jobs b on b.status = 'todo' and b.queueing_lock = 'jobrunner.adopt ' || j.lock
    where j.id = any (%(ids)s)
    window line as (partition by j.lock order by j.priority desc, j.id)
),
stays as materialized (
    select s.lock
    from procrastinate_jobs s
    where s.status = 'todo'
        and s.priority >= %(priority)s
        and s.priority < 2147483647
        and (s.priority > %(priority)s or s.id <= %(id)s)
        and s.lock is not null
        and s.id <> all (%(ids)s)
    group by s.lock
),
judged as materialized (
    select
        m.*,
        case
            when greatest(m.until, m.before) > now() then greatest(m.scheduled_at, greatest(m.until, m.before) + m.n * interval '1 microsecond')
            else m.scheduled_at
        end as due,
        case
            when m.lock is null or octet_length(m.lock) not between 1 and 512 then null
            when exists (select from procrastinate_jobs d where d.lock = m.lock and d.status = 'doing') then 'running'
            when m.barrier is null or not %(settled)s then 'open'
            when m.lock in (select s.lock from stays s) then 'behind'
        end as left_by
    from me m
),
moved as materialized (
    select a.*
    from jobrunner.procrastinate_adopt_v1((
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'source', j.id,
                    'task', j.task_name,
                    'queue', j.queue_name,
                    'priority', j.priority,
                    'args', j.args,
                    'key', j.lock,
                    'queueing_lock', j.queueing_lock,
                    'due', j.due,
                    'attempts', j.attempts,
                    'deferred_at', (select min(e.at) from procrastinate_events e where e.job_id = j.id and e.type = 'deferred')
                )
                order by j.priority desc, j.id
            ),
            '[]'
        )
        from judged j
        where j.left_by is null
    ), %(actor)s) a
),
gone as (
    delete from procrastinate_jobs g
    where g.id = any (array(select m.source from moved m where m.id is not null))
    returning g.id
),
held_up as (
    update procrastinate_jobs b
    set args = jsonb_build_object('until', l.due)
    from (
        select j.barrier, max(j.due) as due
        from judged j
        join moved m on m.source = j.id and m.id is not null
        where j.due > now()
            and j.barrier is not null
        group by j.barrier
    ) l
    where b.id = l.barrier
)
select
    j.id as source,
    j.task_name as task,
    m.id is not null as moved,
    g.id is not null as gone,
    coalesce(j.due > now(), false) as scheduled,
    coalesce(m.left_by, j.left_by) as left_by,
    m.problem
from judged j
left join moved m on m.source = j.id
left join gone g on g.id = j.id
