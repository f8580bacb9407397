-- Who still needs an old day of the log (free_log_v1): the names of the subscriptions that hold it. When there are none the day may go,
-- and it is noted where the log stood, because positions go on from there; only the last such note is kept.
create or replace function jobrunner.free_day_v1(_day date)
returns text[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _name    text := (select p.name from jobrunner.old_partition('events', _day) p);
    _last    record;
    _holders text[];
begin
    execute format('select e.position, e.recorded_at from jobrunner.%I e order by e.position desc limit 1', _name) into _last;
    if _last.position is null then
        return '{}';
    end if;
    _holders := jobrunner.free_log_v1(_last.position);
    if _holders = '{}' then
        insert into jobrunner.log_base (position, recorded_at)
        values (_last.position, _last.recorded_at)
        on conflict (position) do nothing;
        delete from jobrunner.log_base b
        where b.position < _last.position;
    end if;
    return _holders;
end
$$;
