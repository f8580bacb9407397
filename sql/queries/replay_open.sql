-- How many deliveries of a walk wait or run. Reads all of jobs once.
select count(*)
from jobrunner.jobs j
where j.task = %(subscription)s
    and j.state in ('scheduled', 'ready', 'blocked', 'running')
    and j.headers @> jsonb_build_object('replay', %(id)s::bigint)
