-- Every queue that somebody named, used or paused, with its jobs by state and the live runners that read it.
-- Reads all of jobs once (a second for some million rows): for people, not for probes (health.sql is).
select
    q.queue as name, q.paused_at, q.paused_by, q.pause_reason, q.description, q.ready, q.scheduled, q.retrying, q.blocked, q.running,
    q.dead, q.oldest_ready_age as oldest_ready, q.runners
from jobrunner.v_queue q
order by q.queue
