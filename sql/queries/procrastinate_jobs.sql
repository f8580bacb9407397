-- Jobs, live and kept, in the words of procrastinate, with their arguments.
select j.*
from jobrunner.procrastinate_jobs_v1(%(id)s, %(queue)s, %(task)s, %(status)s, %(lock)s, %(queueing_lock)s, %(worker_id)s) j
