-- The status of one job, in the words of procrastinate.
select v.status
from jobrunner.v_procrastinate_job v
where v.id = %(id)s
