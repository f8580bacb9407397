-- A person pauses a subscription: no claim takes its deliveries from the next statement on; what runs goes on, and what is
-- published is delivered and waits. True when it was not paused.
create or replace function jobrunner.op_pause_subscription(_name text, _actor text default session_user, _reason text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _changed boolean;
begin
    perform jobrunner.require_subscription(_name);
    update jobrunner.subscriptions s
    set paused_at = clock_timestamp(),
        paused_by = _actor,
        pause_reason = _reason
    where s.name = _name
        and s.paused_at is null;
    _changed := found;
    insert into jobrunner.audit (actor, action, target, reason) values (_actor, 'pause', 'subscription ' || _name, _reason);
    return _changed;
end
$$;
