-- Makes up to _n parked jobs ready again whose task and version this runner knows; returns how many.
create or replace function jobrunner.unpark_v1(_tasks text[], _versions smallint[], _n integer)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    _back   integer;
    _queues text[];
begin
    with back as (
        update jobrunner.jobs j
        set state = 'ready',
            blocked_on = null,
            seq = jobrunner.stamp()
        where j.id = any (array(
            select x.id
            from unnest(_tasks, _versions) t (task, version)
            cross join lateral (
                select y.id
                from jobrunner.jobs y
                where y.blocked_on = 'task'
                    and y.task = t.task
                    and y.version <= t.version
                order by y.version               -- and no further: an index order, however many are parked
                limit _n
                for no key update skip locked
            ) x
            where not exists (select from jobrunner.subscriptions s where s.name = t.task and s.paused_at is not null)
            limit _n
        ))
        returning j.queue
    )
    select count(*), array_agg(distinct b.queue)
    into _back, _queues
    from back b;
    perform jobrunner.wake(_queues);
    return _back;
end
$$;
