-- Puts ready jobs out of the claim's way whose task (or version) no live runner knows, or whose subscription is paused; returns how
-- many it parked and how many it looked at, from the front of the queue. They wait as blocked/task until a runner comes that knows
-- them, or until the subscription is resumed.
create or replace function jobrunner.park_v1(_queue text, _n integer, out parked integer, out seen integer)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
    with front as materialized (
        select x.id, x.task, x.version
        from jobrunner.jobs x
        where x.queue = _queue
            and x.state = 'ready'
        order by x.priority desc, x.seq
        limit _n
    ),
    strange as materialized (
        select f.task, f.version
        from (select distinct task, version from front) f
        where not exists (
            select
            from jobrunner.runner_tasks t
            join jobrunner.runners r on r.id = t.runner_id
            where t.task = f.task
                and t.version >= f.version
                and r.lost_at is null
        )
            or exists (select from jobrunner.subscriptions s where s.name = f.task and s.paused_at is not null)
    ),
    gone as (
        update jobrunner.jobs j
        set state = 'blocked',
            blocked_on = 'task'
        where j.id = any (array(
            select x.id
            from front f
            join strange s using (task, version)
            cross join lateral (
                select y.id
                from jobrunner.jobs y
                where y.id = f.id
                    and y.state || '' = 'ready'
                limit 1
                for no key update skip locked
            ) x
        ))
        returning 1
    )
    select (select count(*) from gone), (select count(*) from front)
    into parked, seen;
end
$$;
