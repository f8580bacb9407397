-- Declares the runners lost that have not beaten for their ttl; returns how many. The row lock re-checks the beat, and skips a
-- row that someone holds: a runner that was only looked at in psql (for update) would stop every scan there is. The jobs
-- are given back by a later statement (give_back_v1): a claim that commits after this one must be found by it. Publishes
-- jobrunner.runner.lost for each.
create or replace function jobrunner.mark_lost_v1(_now timestamptz default null)
returns integer
language plpgsql
as $$
declare
    _lost integer := 0;
    _r    record;
begin
    _now := coalesce(_now, now());
    for _r in
        update jobrunner.runners r
        set lost_at = _now,
            ended = 'lost'
        where r.id = any (array(
            select x.id
            from jobrunner.runners x
            where x.lost_at is null
                and x.beat_at < _now - x.ttl
            for no key update skip locked
        ))
        returning r.id, r.app, r.host, r.pid, r.beat_at
    loop
        _lost := _lost + 1;
        perform jobrunner.publish_system(
            'runner.lost',
            jsonb_build_object('runner', _r.id::text, 'app', _r.app, 'host', _r.host, 'pid', _r.pid, 'beat_at', _r.beat_at),
            'runner:' || _r.id
        );
    end loop;
    return _lost;
end
$$;
