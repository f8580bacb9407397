-- Says good-bye: the runner's row becomes a tombstone and whatever it still held goes back at once, without an attempt spent.
-- Returns how many jobs went back.
create or replace function jobrunner.stop_v1(_runner bigint)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    update jobrunner.runners r
    set lost_at = clock_timestamp(),
        ended = 'stopped',
        busy = 0
    where r.id = _runner
        and r.lost_at is null;
    return jobrunner.give_back_v1(100000, _runner);
end
$$;
