-- Jobs that have been running for long, or whose runner is gone or silent. Normally none: every runner gives such jobs back.
select s.*
from jobrunner.procrastinate_stalled_v1(%(running)s, %(silent)s, %(queue)s, %(task)s) s
