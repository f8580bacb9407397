-- A saga, held until this transaction ends.
select s.status, s.state, s.timeout_at, s.correlation_id
from jobrunner.lock_saga_v1(%(name)s, %(key)s, %(fenced)s) s
