-- The states of these jobs; an id that is nowhere is absent.
select j.id, j.state
from jobrunner.v_job j
where j.id = any (%(ids)s)
