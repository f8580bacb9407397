-- Makes up to _n scheduled jobs ready whose time has come (after _floor, below which none can appear any more); returns how
-- many. A keyed job that does not hold its key arrives and is seated like any other. No leader: SKIP LOCKED, run by all.
-- now() and not clock_timestamp() in the condition: the latter is volatile, so no index serves it (1,005 ms against 0.06).
create or replace function jobrunner.promote_v1(_n integer, _floor timestamptz default '-infinity', _now timestamptz default null)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    _promoted integer;
    _queues   text[];
begin
    _now := coalesce(_now, now());
    with due as (
        update jobrunner.jobs j
        set state = case when j.key is null or j.holds_key then 'ready' else 'blocked' end,
            blocked_on = case when j.key is not null and not j.holds_key then 'arrival' end,
            seq = jobrunner.stamp()
        where j.id = any (array(
            select x.id
            from jobrunner.jobs x
            where x.state = 'scheduled'
                and x.run_at > _floor
                and x.run_at <= _now
            order by x.run_at
            limit _n
            for no key update skip locked
        ))
        returning j.queue
    )
    select count(*), array_agg(distinct d.queue)
    into _promoted, _queues
    from due d;
    perform jobrunner.wake(_queues);
    return _promoted;
end
$$;
