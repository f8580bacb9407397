-- One look around and the claim of one job, in one round trip: the classes that the look found stand among those that the caller
-- knows, by priority. tasks null: nobody said which tasks this worker has; then those of what is ready, but no subscription's.
with look as materialized (
    select t.*
    from jobrunner.tick_v1(
        %(queues)s::text[], %(priorities)s::smallint[], %(any)s, %(asleep)s::interval, %(arrived_floor)s, %(due_floor)s,
        _base => %(base)s, _passed => %(passed)s::bigint[]
    ) t
),
classes as (
    select
        array_agg(k.queue order by k.priority desc, k.n) as queues,
        array_agg(k.priority order by k.priority desc, k.n) as priorities,
        array_agg(k.floor order by k.priority desc, k.n) as floors
    from (
        select g.queue, g.priority, g.floor, g.n
        from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(floors)s::bigint[]) with ordinality g (queue, priority, floor, n)
        union all
        select f.queue, f.priority, 0, 100000 + f.n
        from look l
        cross join lateral unnest(l.queues, l.priorities) with ordinality f (queue, priority, n)
    ) k
)
select
    l.snapshot, l.stamp, l.at, l.promoted, l.seen, l.seated, l.queues as found_queues, l.priorities as found_priorities, l.drawn,
    c.id, c.task, c.queue, c.priority, c.seq, c.attempt, c.key, c.args::jsonb as args, c.headers::jsonb ->> 'queueing_lock' as queueing_lock,
    c.headers::jsonb ->> 'correlation_id' as correlation,
    case when c.run_at > c.created_at then c.run_at end as scheduled_at
from look l
cross join classes k
left join lateral jobrunner.claim_v1(
    %(runner)s, 1, k.queues, k.priorities, k.floors,
    %(tasks)s::text[], array_fill(1::smallint, array[cardinality(%(tasks)s::text[])])
) c on true
