-- What waits in the outbox, and where the log stands.
select o.pending, o.oldest_age, o.oldest_id, o.head_position, o.head_recorded_at
from jobrunner.v_outbox o
