-- What people changed, the latest first; before %(after)s. A job is named in the target, among up to a hundred.
select a.id, a.at, a.actor, a.action, a.target, a.jobs, a.reason
from jobrunner.v_audit a
where (%(after)s::bigint is null or a.id < %(after)s::bigint)
    and (%(actor)s::text is null or a.actor = %(actor)s::text)
    and (%(action)s::text is null or a.action = %(action)s::text)
    and (%(job)s::text is null or a.target ~ ('^job (\d+, )*' || %(job)s::text || '(,|$)'))
order by a.id desc
limit %(limit)s
