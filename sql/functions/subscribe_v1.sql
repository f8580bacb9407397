-- Makes a subscription known if there is none of its name, and says how the one that is there differs from _spec: {} when it
-- does not. Never changes one: two versions of a service run side by side, and neither may overwrite the other's filter
-- (apply_subscription does, for a person). _spec: mode, types, match, queue, priority, max_attempts, retry, ordered, on_dead, replay, on_lag.
-- _after: it gets what lies behind this position; null: what is recorded from now on. Under the sequencer's lock, with the head
-- read in a statement of its own: so every event is delivered by the one or the other, live or backfill, and none by both.
-- The caller's transaction should be short: the sequencer waits for it.
create or replace function jobrunner.subscribe_v1(_name text, _app text, _spec jsonb, _after bigint)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _s    jobrunner.subscriptions;
    _head bigint;
begin
    perform jobrunner.require_read_committed();
    select s.* into _s from jobrunner.subscriptions s where s.name = _name;
    if not found then
        perform jobrunner.lock_log();
        select h.position into _head from jobrunner.log_head() h;
        select d.* into _s from jsonb_populate_record(null::jobrunner.subscriptions, jobrunner.subscription_spec(_spec)) d;
        insert into jobrunner.subscriptions (
            name, app, mode, types, pattern, match, queue, priority, max_attempts, retry, ordered, on_dead, replay, on_lag, state, live_from
        )
        values (
            _name, _app, _s.mode, _s.types, jobrunner.topic_pattern(_s.types), _s.match, _s.queue, _s.priority, _s.max_attempts, _s.retry,
            _s.ordered, _s.on_dead, _s.replay, _s.on_lag,
            case when _s.mode = 'queue' and _s.ordered and _after < _head then 'catching_up' else 'live' end,
            greatest(_head, _after)
        )
        on conflict (name) do nothing;
        if found then
            if _s.mode = 'stream' then
                insert into jobrunner.cursors (subscription, position) values (_name, coalesce(_after, _head));
                perform jobrunner.pump_v1(_name);
            elsif _after < _head then
                insert into jobrunner.replays (subscription, kind, from_after, upto, at_position, actor)
                values (_name, case when _s.ordered then 'catch_up' else 'backfill' end, _after, _head, _after, 'registration');
                perform jobrunner.wake_sequencer();
            end if;
            return '{}';
        end if;
        select s.* into _s from jobrunner.subscriptions s where s.name = _name;
    end if;

    return (
        select coalesce(jsonb_object_agg(n.key, jsonb_build_object('is', o.value, 'wanted', n.value)), '{}')
        from jsonb_each(jobrunner.subscription_spec(_spec)) n
        join jsonb_each(to_jsonb(_s)) o on o.key = n.key
        where o.value is distinct from n.value
    );
end
$$;
