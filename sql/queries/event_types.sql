-- What is published, how often within a day, and who listens.
select t.type, t.version, t.first_position, t.last_position, t.last_at, t.n_24h, t.subscriptions
from jobrunner.v_event_type t
order by t.type, t.version
