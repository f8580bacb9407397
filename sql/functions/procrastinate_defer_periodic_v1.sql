-- Writes the job of one tick of a periodic task, unless somebody did so for this tick or a later one: then null. The row lock of the
-- mark holds every other worker until the first one's commit.
create or replace function jobrunner.procrastinate_defer_periodic_v1(_periodic_id text, _tick timestamptz, _job jsonb)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    insert into jobrunner.schedules as s (task, name, last_tick)
    values (_job ->> 'task', _periodic_id, _tick)
    on conflict (task, name) do update
    set last_tick = excluded.last_tick
    where s.last_tick < excluded.last_tick;
    if not found then
        return null;
    end if;
    return (jobrunner.procrastinate_defer_v1(jsonb_build_array(_job)))[1];
end
$$;
