-- One look around before a claim.
select t.snapshot, t.stamp, t.at, t.promoted, t.seen, t.seated, t.due_in, t.queues, t.priorities
from jobrunner.tick_v1(%(queues)s::text[], %(priorities)s::smallint[], %(any)s, %(asleep)s, %(arrived_floor)s, %(due_floor)s) t
