-- Who still needs the log up to the position _upto, before retention drops it: the names of the subscriptions that hold it. One with
-- on_lag = release holds nothing: its waiting deliveries of those events die here with the reason expired, its cursor and its walks
-- move past them, and audit says so. A dead delivery counts as needed by one that holds: a person may want it back. A stream that
-- stands before _upto because nothing came for it is sent on its way, and no longer holds the next time.
create or replace function jobrunner.free_log_v1(_upto bigint)
returns text[]
language plpgsql
as $$
declare
    _s       record;
    _expired bigint[];
    _moved   boolean;
begin
    perform jobrunner.require_read_committed();
    for _s in select s.name from jobrunner.subscriptions s where s.on_lag = 'release' order by s.name loop
        perform jobrunner.depart_v1(array(       -- of the last time: somebody held the next of its key
            select j.id
            from jobrunner.jobs j
            where j.task = _s.name
                and j.state = 'dead'
                and j.reason = 'expired'
                and j.holds_key
        ));
        select coalesce(array_agg(l.id), '{}')
        into _expired
        from (
            select j.id
            from jobrunner.jobs j
            where j.task = _s.name
                and j.state in ('scheduled', 'ready', 'blocked')
                and substring(j.args ->> 'position' from '^[0-9]{1,18}$')::bigint <= _upto
            order by j.id
            for update skip locked
        ) l;
        _expired := jobrunner.may_end_v1(_expired, _expired);              -- what cannot pass its turn on now is left for the next time
        with ended as (
            update jobrunner.jobs j
            set state = 'dead',
                blocked_on = null,
                finished_at = now(),
                reason = 'expired'
            where j.id = any (_expired)
            returning j.id
        )
        select coalesce(array_agg(e.id order by e.id), '{}') into _expired from ended e;
        if _expired <> '{}' then
            perform jobrunner.depart_v1(_expired);
        end if;
        update jobrunner.cursors c
        set position = _upto
        where c.subscription = _s.name
            and c.position < _upto;
        _moved := found;
        update jobrunner.replays r
        set at_position = _upto
        where r.subscription = _s.name
            and r.state = 'running'
            and r.at_position < _upto;
        if _expired <> '{}' or _moved or found then
            insert into jobrunner.audit (actor, action, target, jobs, reason, detail)
            values (
                'retention', 'release', 'subscription ' || _s.name, cardinality(_expired), 'expired',
                jsonb_build_object('upto', _upto, 'deliveries', jobrunner.audit_target(_expired))
            );
        end if;
    end loop;

    perform jobrunner.pump_v1(c.subscription) from jobrunner.cursors c where c.position < _upto;
    return array(
        select s.name
        from jobrunner.subscriptions s
        where exists (
            select
            from jobrunner.jobs j
            where j.task = s.name
                and substring(j.args ->> 'position' from '^[0-9]{1,18}$')::bigint <= _upto
                and (s.on_lag = 'hold' or j.state = 'running' or (j.state = 'dead' and j.reason = 'expired' and j.holds_key))
            union all
            select
            from jobrunner.cursors c
            where c.subscription = s.name
                and c.position < _upto
            union all
            select
            from jobrunner.replays r
            where r.subscription = s.name
                and r.state = 'running'
                and r.at_position < _upto
        )
        order by s.name
    );
end
$$;
