-- A person resumes a subscription. What was put aside is made ready, 10,000 at once and the rest by the runners; the notification makes
-- them look at once. Under the sequencer's lock: a step that still saw the pause makes no pump, and this one's would have run
-- before the step commits. True when it was paused.
create or replace function jobrunner.op_resume_subscription(_name text, _actor text default session_user, _reason text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _changed boolean;
begin
    perform jobrunner.lock_log();
    perform jobrunner.require_subscription(_name);
    update jobrunner.subscriptions s
    set paused_at = null,
        paused_by = null,
        pause_reason = null
    where s.name = _name
        and s.paused_at is not null;
    _changed := found;
    perform jobrunner.unpark_v1(array[_name], array[coalesce((select t.version from jobrunner.tasks t where t.name = _name), 1::smallint)], 10000);
    perform jobrunner.pump_v1(_name);
    insert into jobrunner.audit (actor, action, target, reason) values (_actor, 'resume', 'subscription ' || _name, _reason);
    perform pg_notify('jobrunner', 'look');
    return _changed;
end
$$;
