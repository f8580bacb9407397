-- The names of the tasks that a runner ever registered.
select t.name
from jobrunner.tasks t
order by t.name
