-- The position of the last event that was recorded before _at (0 when there is none, null for null): positions grow with time, so halving
-- finds it in some forty probes of an index, however long a day is.
create or replace function jobrunner.position_at(_at timestamptz)
returns bigint
language plpgsql
stable
strict
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
    _low  bigint;
    _high bigint := (select h.position from jobrunner.log_head() h);
    _mid  bigint;
    _seen timestamptz;
begin
    select e.position - 1 into _low from jobrunner.events e order by e.position limit 1;
    _low := coalesce(_low, _high);                           -- before all that is still there
    while _low < _high loop
        _mid := _low + (_high - _low + 1) / 2;
        select e.recorded_at into _seen from jobrunner.events e where e.position >= _mid order by e.position limit 1;
        if _seen < _at then
            _low := _mid;
        else
            _high := _mid - 1;
        end if;
    end loop;
    return _low;
end
$$;
