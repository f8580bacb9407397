-- Which tasks do jobs wait for that no live runner knows? Start a runner with the code that has them.
select u.queue, u.task, u.version, u.jobs, date_trunc('second', u.oldest_age) as oldest, u.last_known
from jobrunner.v_task_unknown u
order by u.jobs desc, u.queue, u.task;
