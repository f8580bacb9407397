-- The status of one job, in the words of procrastinate.
select j.status
from jobrunner.procrastinate_jobs_v1(%(id)s) j
