-- Runners, the live ones first; with %(gone)s also those that ended within the last day.
select
    r.runner as id, r.state, r.app, r.host, r.pid, r.version, r.queues, r.slots, r.busy, r.listening, r.started_at, r.beat_age,
    r.poll, r.schema_oldest, r.schema_newest, r.tasks
from jobrunner.v_runner r
where %(gone)s
    or r.state in ('alive', 'silent')
order by r.state, r.app, r.host, r.pid, r.runner
