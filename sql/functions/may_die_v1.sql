-- Of these jobs, all held FOR UPDATE by the caller, without those of _dying whose subscription must be paused by their death and is
-- held by somebody right now (a person who changes it): begun, the death would have to wait for him, or the pause be lost. What is not
-- returned is to be left for later, as with may_end_v1.
create or replace function jobrunner.may_die_v1(_ids bigint[], _dying bigint[])
returns bigint[]
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _wanted text[];
    _held   text[];
begin
    if _dying = '{}' then
        return _ids;
    end if;
    select array_agg(distinct s.name)
    into _wanted
    from jobrunner.jobs j
    join jobrunner.subscriptions s on s.name = j.task
    where j.id = any (_dying)
        and s.on_dead = 'pause'
        and s.paused_at is null;
    if _wanted is null then
        return _ids;
    end if;
    select coalesce(array_agg(l.name), '{}')
    into _held
    from (
        select s.name
        from jobrunner.subscriptions s
        where s.name = any (_wanted)
        order by s.name
        for no key update skip locked
    ) l;
    return array(
        select i.id
        from unnest(_ids) i (id)
        where i.id <> all (_dying)
            or not exists (
                select
                from jobrunner.jobs j
                where j.id = i.id
                    and j.task = any (_wanted)
                    and j.task <> all (_held)
            )
    );
end
$$;
