-- Takes an old day off its table, for a runner that does not own the tables: the owner does it concurrently, which no function can.
-- This way it needs the table for itself for a moment, and whoever comes meanwhile waits behind it: 50 ms at the most, then it gives up
-- (55P03), and the next round of retention tries again.
create or replace function jobrunner.detach_day_v1(_table text, _day date)
returns void
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set lock_timeout = '50ms'
as $$
declare
    _p record;
begin
    select * into _p from jobrunner.old_partition(_table, _day);
    if _p.attached then
        execute format('alter table jobrunner.%I detach partition jobrunner.%I %s', _table, _p.name, case when _p.pending then 'finalize' else '' end);
    end if;
end
$$;
