-- Makes the partitions of the history and of the log for the day of _from and the _days after it; returns for how many days one
-- was missing. Idempotent.
-- LIKE, CHECK, ATTACH and never PARTITION OF: that waits for every reader of the history and makes each settle wait behind it.
-- The CHECK spares ATTACH its scan. Bounds are UTC days.
create or replace function jobrunner.make_partitions(_from timestamptz, _days integer)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _first date := (_from at time zone 'utc')::date;
    _day   date;
    _name  text;
    _low   timestamptz;
    _high  timestamptz;
    _made  date[] := '{}';
    _table record;
begin
    if _days is null or _days not between 0 and 366 then
        raise exception 'jobrunner: partitions are made for 0 to 366 days ahead, not for %', _days using errcode = 'JR003';
    end if;
    perform pg_advisory_xact_lock(727003);
    for _n in 0 .. _days loop
        _day := _first + _n;
        _low := _day::timestamp at time zone 'utc';
        _high := (_day + 1)::timestamp at time zone 'utc';
        for _table in select * from (values ('finished_jobs', 'finished_at'), ('events', 'recorded_at')) t (name, col) loop
            _name := _table.name || '_p' || to_char(_day, 'YYYYMMDD');
            continue when to_regclass('jobrunner.' || _name) is not null;
            execute format('create table jobrunner.%I (like jobrunner.%I including defaults including constraints)', _name, _table.name);
            execute format(
                'alter table jobrunner.%I add constraint day check (%I >= %L and %I < %L)', _name, _table.col, _low, _table.col, _high
            );
            execute format(
                'alter table jobrunner.%I attach partition jobrunner.%I for values from (%L) to (%L)', _table.name, _name, _low, _high
            );
            execute format('alter table jobrunner.%I drop constraint day', _name);
            _made := _made || _day;
        end loop;
    end loop;
    return (select count(distinct d) from unnest(_made) d);
end
$$;
