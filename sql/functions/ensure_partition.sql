-- Makes the day's partition of the history if it is missing. Costs a name look-up (2 µs) when it is there.
create or replace function jobrunner.ensure_partition(_at timestamptz)
returns void
language plpgsql
as $$
begin
    if to_regclass('jobrunner.finished_jobs_p' || to_char(_at at time zone 'utc', 'YYYYMMDD')) is null then
        perform jobrunner.make_partitions(_at, 0);
    end if;
end
$$;
