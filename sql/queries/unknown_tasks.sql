-- Tasks and versions that jobs wait for and no live runner knows: of the parked jobs, and of the first 1000 ready ones of
-- each queue that a live runner reads and that is not paused. `ready` counts those among them that nobody has parked yet.
select u.queue, u.task, u.version, u.jobs, u.ready, u.oldest_age as oldest
from jobrunner.v_task_unknown u
order by u.jobs desc, u.queue, u.task, u.version
