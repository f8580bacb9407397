-- One look around before a claim; after it, in a later snapshot, whether publishers left something.
select t.snapshot, t.stamp, t.at, t.promoted, t.seen, t.seated, t.due_in, t.queues, t.priorities, t.drawn,
    jobrunner.outbox_waits_v1(%(outbox_floor)s)
from jobrunner.tick_v1(
    %(queues)s::text[], %(priorities)s::smallint[], %(any)s, %(asleep)s, %(arrived_floor)s, %(due_floor)s,
    _base => %(base)s, _passed => %(passed)s::bigint[]
) t
