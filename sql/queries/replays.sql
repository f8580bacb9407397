-- Walks over the log, the newest first: of one subscription, of one id, or only those that are under way.
select
    r.id, r.subscription, r.kind, r.state, r.total, r.processed, r.failed, r.percentage::float8 as percentage, r.rate::float8 as rate,
    r.estimated_completion, r.message, r.from_after, r.upto, r.at_position, r.types, r.key, r.max_rate, r.delivered, r.actor, r.reason,
    r.created_at, r.moved_at, r.finished_at
from jobrunner.v_replay r
where (%(subscription)s::text is null or r.subscription = %(subscription)s::text)
    and (%(id)s::bigint is null or r.id = %(id)s::bigint)
    and (%(all)s or r.state = 'running')
order by r.id desc
limit %(limit)s
