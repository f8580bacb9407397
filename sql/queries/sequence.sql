-- What publishers left, moved into the log: how many events (-1: another is at it), how many deliveries, and up to which
-- row.
select s.moved, s.delivered, s.last
from jobrunner.sequence_v1(%(n)s, %(floor)s, %(alone)s, %(base)s, %(passed)s::bigint[]) s
