-- What a replay would walk over: behind which position, and up to which.
select
    greatest(least(coalesce(%(after)s::bigint, jobrunner.position_at(%(since)s::timestamptz)), h.position), 0) as after,
    least(coalesce(%(upto)s::bigint, jobrunner.position_at(%(until)s::timestamptz), h.position), h.position) as upto
from jobrunner.v_log_head h
