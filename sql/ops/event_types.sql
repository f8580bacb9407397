-- What is published, how much of it within a day, and who listens? No subscription: nobody does.
select t.type, t.version, t.n_24h, now() - t.last_at as last_ago, t.first_position, t.last_position, t.subscriptions
from jobrunner.v_event_type t
order by t.type, t.version;
