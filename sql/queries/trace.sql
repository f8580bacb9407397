-- The tree that one fact caused, depth first: a subject, or job:ID.
select
    t.depth, t.kind, t.id, t.cause, t.task, t.queue, t.state, t.blocked_on, t.attempt, t.failures, t.created_at, t.started_at,
    t.finished_at, t.reason, t.error, t.subject
from jobrunner.trace(%(ref)s, %(limit)s) t
