-- How many jobs of each status there are, live and kept.
select count(*) as count, v.status
from jobrunner.v_procrastinate_job v
group by v.status
