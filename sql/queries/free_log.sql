-- The last position of a partition of the log (null when it is empty), when it was recorded, and who still needs it.
select e.position, e.recorded_at, jobrunner.free_log_v1(e.position)
from {partition} e
order by e.position desc
limit 1
