-- What waits is cancelled, what runs is asked to stop; one row an id; writes audit.
select c.id, c.result
from jobrunner.op_cancel(%(ids)s::bigint[], %(actor)s, %(reason)s) c
