-- Tasks and versions that jobs wait for and no live runner knows.
select j.task, j.version, count(*) as jobs, now() - min(j.created_at) as oldest
from jobrunner.jobs j
where j.blocked_on = 'task'
group by j.task, j.version
order by jobs desc, j.task, j.version
