-- How many jobs wait in procrastinate's table, and how many run.
select
    count(*) filter (where j.status = 'todo') as waiting,
    count(*) filter (where j.status = 'doing') as running
from procrastinate_jobs j
where j.status in ('todo', 'doing')
    and j.task_name <> 'jobrunner.adopt'
