-- The tree that one fact caused, depth first: of a subject, job:ID or event:UUID.
select
    t.depth, t.kind, t.id, t.cause, t.task, t.queue, t.state, t.blocked_on, t.attempt, t.failures, t.created_at, t.started_at,
    t.finished_at, t.reason, t.error, t.subject, t.event_id, t.type, t.version, t.key
from jobrunner.trace(%(ref)s, %(limit)s) t
