-- How many jobs of each status there are, live and kept.
select c.jobs as count, c.status
from jobrunner.procrastinate_counts_v1(null) c
