-- Makes the history's partitions for the day of _from and the _days after it; returns how many were missing. Idempotent.
-- LIKE, CHECK, ATTACH and never PARTITION OF: that waits for every reader of the history and makes each settle wait behind it.
-- The CHECK spares ATTACH its scan. Bounds are UTC days.
create or replace function jobrunner.make_partitions(_from timestamptz, _days integer)
returns integer
language plpgsql
as $$
declare
    _first date := (_from at time zone 'utc')::date;
    _day   date;
    _name  text;
    _low   timestamptz;
    _high  timestamptz;
    _made  integer := 0;
begin
    perform pg_advisory_xact_lock(727003);
    for _n in 0 .. _days loop
        _day := _first + _n;
        _name := 'finished_jobs_p' || to_char(_day, 'YYYYMMDD');
        _low := _day::timestamp at time zone 'utc';
        _high := (_day + 1)::timestamp at time zone 'utc';
        continue when to_regclass('jobrunner.' || _name) is not null;
        execute format('create table jobrunner.%I (like jobrunner.finished_jobs including defaults including constraints)', _name);
        execute format('alter table jobrunner.%I add constraint day check (finished_at >= %L and finished_at < %L)', _name, _low, _high);
        execute format('alter table jobrunner.finished_jobs attach partition jobrunner.%I for values from (%L) to (%L)', _name, _low, _high);
        execute format('alter table jobrunner.%I drop constraint day', _name);
        _made := _made + 1;
    end loop;
    return _made;
end
$$;
