-- The states of these jobs; an id that is nowhere is absent.
select j.id, j.state
from jobrunner.jobs j
where j.id = any (%(ids)s)
union all
select f.id, f.state
from jobrunner.finished_jobs f
where f.id = any (%(ids)s)
