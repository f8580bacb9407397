-- Every subscription, or the one of a name, with its deliveries by state and how far it is behind. Reads all of jobs once.
select
    s.name, s.app, s.mode, s.types, s.queue, s.ordered, s.on_dead, s.state, s.paused_at, s.paused_by, s.pause_reason, s.live_from,
    s.cursor_position, s.head, s.lag_events, s.lag, s.ready, s.scheduled, s.retrying, s.blocked, s.running, s.dead, s.blocked_keys,
    s.replaying
from jobrunner.v_subscription s
where %(name)s::text is null
    or s.name = %(name)s::text
order by s.name
