-- A person removes a subscription: nothing is delivered to it any more, what waits is cancelled, what is dead discarded. Returns how
-- many deliveries that was. A runner whose code still has it makes it anew when it starts.
create or replace function jobrunner.op_remove_subscription(_name text, _actor text default session_user, _reason text default null)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _gone integer;
begin
    perform jobrunner.require_read_committed();
    perform jobrunner.lock_log();
    perform jobrunner.require_subscription(_name);
    delete from jobrunner.subscriptions s where s.name = _name;
    update jobrunner.replays r
    set state = 'cancelled',
        finished_at = clock_timestamp()
    where r.subscription = _name
        and r.state = 'running';
    _gone := jobrunner.drop_deliveries(_name, null, _actor, coalesce(_reason, 'subscription removed'));
    insert into jobrunner.audit (actor, action, target, jobs, reason) values (_actor, 'remove', 'subscription ' || _name, _gone, _reason);
    return _gone;
end
$$;
