-- Which tasks do jobs wait for that no live runner knows? Start a runner with the code that has them.
select j.task, j.version, count(*) as jobs, now() - min(j.created_at) as oldest, t.seen_at as last_known
from jobrunner.jobs j
left join jobrunner.tasks t on t.name = j.task
where j.blocked_on = 'task'
group by j.task, j.version, t.seen_at
order by jobs desc;
