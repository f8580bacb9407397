-- The job at the front of each queue that is not paused, and for how long it has been due. One index probe a queue:
-- cheap enough for a probe every few seconds, whatever the backlog. The front is by priority, so it is not always the oldest.
select f.queue, f.id, f.wait as waited
from jobrunner.v_front f
where f.paused_at is null
order by waited desc
