-- The history of one key, oldest first, behind a position.
select e.*
from jobrunner.entity_events_v1(%(key)s, %(after)s, %(types)s::text[], %(limit)s) e
