-- The dead jobs that a bulk change means, the first to die first: those of %(ids)s, where it is given, that also pass the filters.
select j.id, j.task, j.queue
from jobrunner.jobs j
where j.state = 'dead'
    and j.finished_at is not null
    and (%(ids)s::bigint[] is null or j.id = any (%(ids)s::bigint[]))
    and (%(queue)s::text is null or j.queue = %(queue)s::text)
    and (%(task)s::text is null or j.task = %(task)s::text)
    and (%(error)s::text is null or position(lower(%(error)s::text) in lower(j.error)) > 0)
    and (%(older_than)s::interval is null or j.finished_at <= now() - %(older_than)s::interval)
    and (%(newer_than)s::interval is null or j.finished_at > now() - %(newer_than)s::interval)
order by j.finished_at, j.id
limit %(limit)s
