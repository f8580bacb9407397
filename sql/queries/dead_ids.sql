-- The dead jobs that a bulk change means, the first to die first: those of %(ids)s, where it is given, that also pass the filters.
select d.id, d.task, d.queue
from jobrunner.v_dead d
where (%(ids)s::bigint[] is null or d.id = any (%(ids)s::bigint[]))
    and (%(queue)s::text is null or d.queue = %(queue)s::text)
    and (%(task)s::text is null or d.task = %(task)s::text)
    and (%(error)s::text is null or position(lower(%(error)s::text) in lower(d.error)) > 0)
    and (%(older_than)s::interval is null or d.died_at <= now() - %(older_than)s::interval)
    and (%(newer_than)s::interval is null or d.died_at > now() - %(newer_than)s::interval)
order by d.died_at, d.id
limit %(limit)s
