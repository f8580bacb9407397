-- Jobs that ended in place and have not been moved out of the way.
select j.id
from jobrunner.jobs j
where j.id = any (%(ids)s::bigint[])
    and j.finished_at is not null
    and j.state in ('succeeded', 'cancelled')
