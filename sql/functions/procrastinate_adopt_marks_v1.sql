-- Carries over what procrastinate's own table says of the last tick of each periodic task: [{task, name, tick}], in seconds. A later
-- tick that is known here stays. Returns how many it changed.
create or replace function jobrunner.procrastinate_adopt_marks_v1(_marks jsonb)
returns integer
language plpgsql
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _changed integer;
begin
    insert into jobrunner.schedules as s (task, name, last_tick)
    select m.task, m.name, to_timestamp(max(m.tick))
    from jsonb_to_recordset(_marks) m (task text, name text, tick bigint)
    group by m.task, m.name
    order by m.task, m.name
    on conflict (task, name) do update
    set last_tick = excluded.last_tick
    where s.last_tick < excluded.last_tick;
    get diagnostics _changed = row_count;
    return _changed;
end
$$;
