-- One scan for runners that died: declares those lost that no longer beat, then gives back what any tombstone still holds.
-- Two statements with a snapshot each, so that a claim which commits in between is found by this scan or the next.
-- Every row is taken with SKIP LOCKED; the timeout is for locks on whole tables, and for rows of the side tables.
create or replace function jobrunner.rescue_v1(_n integer default 500, _now timestamptz default null, out lost integer, out rescued integer)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set lock_timeout = '2s'
as $$
begin
    lost := jobrunner.mark_lost_v1(_now);
    rescued := jobrunner.give_back_v1(_n, null, _now);
end
$$;
