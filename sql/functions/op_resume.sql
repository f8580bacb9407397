-- A person resumes a queue. The notification says "look": runners lower their floors, because jobs that became ready while the
-- queue was paused lie below them. True when it was paused.
create or replace function jobrunner.op_resume(_queue text, _actor text default session_user, _reason text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _changed boolean;
begin
    update jobrunner.queues q
    set paused_at = null,
        paused_by = null
    where q.name = _queue
        and q.paused_at is not null;
    _changed := found;
    insert into jobrunner.audit (actor, action, target, reason) values (_actor, 'resume', 'queue ' || _queue, _reason);
    perform pg_notify('jobrunner', 'look');
    return _changed;
end
$$;
