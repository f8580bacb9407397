-- A person lets a subscription see events again: those behind the position _after (or recorded from _since on) up to _upto (or before
-- _until), of the types and the key that he names, at most _rate a second. Returns the id of the walk (v_replay; null for a
-- stream). They are marked, and run behind what is new.
-- An ordered subscription and a stream can only be rewound, to the present: an old event beside new ones of its key would be an order
-- that never was. A rewind cancels what waits of the subscription and starts again from there. JR004 says what cannot be right.
create or replace function jobrunner.op_replay(
    _subscription text,
    _after        bigint           default null,
    _since        timestamptz      default null,
    _upto         bigint           default null,
    _until        timestamptz      default null,
    _types        text[]           default null,
    _key          text             default null,
    _rate         double precision default null,
    _actor        text             default session_user,
    _reason       text             default null
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    _s    jobrunner.subscriptions;
    _head bigint;
    _id   bigint;
begin
    perform jobrunner.require_read_committed();
    if num_nonnulls(_after, _since) <> 1 then
        raise exception 'jobrunner: say from where: a position or a time, and not both' using errcode = 'JR003';
    elsif num_nonnulls(_upto, _until) > 1 then
        raise exception 'jobrunner: say up to where by a position or a time, not both' using errcode = 'JR003';
    elsif _rate <= 0 then
        raise exception 'jobrunner: the rate must be above 0 a second' using errcode = 'JR003';
    end if;
    perform jobrunner.lock_log();
    select s.* into _s from jobrunner.subscriptions s where s.name = _subscription for no key update;
    if not found then
        raise exception 'jobrunner: there is no subscription %', _subscription using errcode = 'JR005';
    elsif not _s.replay then
        raise exception 'jobrunner: the handler of % declares that it takes no replays', _subscription using errcode = 'JR004';
    elsif (_s.ordered or _s.mode = 'stream') and num_nonnulls(_upto, _until, _types, _key) > 0 then
        raise exception 'jobrunner: % is %, so it can only be rewound: to a position or a time, with every type and key, up to the present', _subscription,
            case when _s.ordered then 'ordered' else 'a stream' end
            using errcode = 'JR004';
    end if;
    select h.position into _head from jobrunner.log_head() h;
    _after := greatest(least(coalesce(_after, jobrunner.position_at(_since)), _head), 0);
    _upto := least(coalesce(_upto, jobrunner.position_at(_until), _head), _head);

    if _s.mode = 'stream' then
        update jobrunner.cursors c
        set position = _after,
            skips = '{}',
            moved_at = clock_timestamp()
        where c.subscription = _subscription;
        perform jobrunner.pump_v1(_subscription);
    else
        if _s.ordered then
            update jobrunner.replays r
            set state = 'cancelled',
                finished_at = clock_timestamp()
            where r.subscription = _subscription
                and r.state = 'running';
            perform jobrunner.drop_deliveries(_subscription, null, _actor, 'rewound');
            update jobrunner.subscriptions s set state = 'catching_up' where s.name = _subscription;
        end if;
        insert into jobrunner.replays (subscription, kind, from_after, upto, at_position, pattern, types, key, rate, actor, reason)
        values (
            _subscription, case when _s.ordered then 'rewind' else 'replay' end, _after, _upto, _after, jobrunner.topic_pattern(_types), _types,
            _key, _rate, _actor, _reason
        )
        returning id into _id;
    end if;
    insert into jobrunner.audit (actor, action, target, reason, detail)
    values (
        _actor, 'replay', 'subscription ' || _subscription, _reason,
        jsonb_build_object('replay', _id, 'after', _after, 'upto', _upto, 'types', _types, 'key', _key, 'rate', _rate)
    );
    perform jobrunner.wake_sequencer();
    return _id;
end
$$;
