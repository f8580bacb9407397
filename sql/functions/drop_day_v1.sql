-- Drops an old day that is detached. Waits 2 s for a lock, then fails.
create or replace function jobrunner.drop_day_v1(_table text, _day date)
returns void
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set lock_timeout = '2s'
as $$
declare
    _p record;
begin
    select * into _p from jobrunner.old_partition(_table, _day);
    if _p.attached then
        raise exception 'jobrunner: the day % is still attached to %', _day, _table using errcode = 'JR004';
    end if;
    execute format('drop table jobrunner.%I', _p.name);
end
$$;
