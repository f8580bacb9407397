-- A person makes a subscription what _spec says (subscribe_v1): the difference that there was. Under the sequencer's lock, so that what
-- is recorded before goes by the old filter and what is recorded after by the new one. Its deliveries that wait keep what they
-- have. What cannot be right is refused (JR004): another mode, or another order while deliveries are open. Writes audit.
create or replace function jobrunner.apply_subscription(
    _name text, _app text, _spec jsonb, _actor text default session_user, _reason text default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _changes jsonb;
    _new     jobrunner.subscriptions;
begin
    perform jobrunner.require_read_committed();
    perform jobrunner.lock_log();
    perform 1 from jobrunner.subscriptions s where s.name = _name for no key update;
    if not found then
        raise exception 'jobrunner: there is no subscription %', _name using errcode = 'JR005';
    end if;
    _changes := jobrunner.subscribe_v1(_name, _app, _spec, null);
    if _changes = '{}' then
        return _changes;
    end if;
    if _changes ? 'mode' then
        raise exception 'jobrunner: % cannot become another mode; give the new one another name, and remove this one', _name
            using errcode = 'JR004';
    end if;
    if _changes ? 'ordered' and exists (
        select from jobrunner.jobs j where j.task = _name
        union all
        select from jobrunner.replays r where r.subscription = _name and r.state = 'running'
    ) then
        raise exception 'jobrunner: % has open deliveries or a walk over the log, and its order cannot change under them; wait until it is idle, or discard its dead ones', _name
            using errcode = 'JR004';
    end if;
    select d.* into _new from jsonb_populate_record(null::jobrunner.subscriptions, jobrunner.subscription_spec(_spec)) d;
    update jobrunner.subscriptions s
    set app = _app,
        types = _new.types,
        pattern = jobrunner.topic_pattern(_new.types),
        match = _new.match,
        queue = _new.queue,
        priority = _new.priority,
        max_attempts = _new.max_attempts,
        retry = _new.retry,
        ordered = _new.ordered,
        on_dead = _new.on_dead,
        replay = _new.replay,
        on_lag = _new.on_lag
    where s.name = _name;
    insert into jobrunner.audit (actor, action, target, reason, detail)
    values (_actor, 'apply', 'subscription ' || _name, _reason, _changes);
    return _changes;
end
$$;
