-- Whether publishers left something above _floor. Volatile, so that it looks in a snapshot of its own: asked after tick_v1 in one
-- statement, it sees whatever the tick's snapshot saw, and a runner that falls asleep by that snapshot misses no event.
create or replace function jobrunner.outbox_waits_v1(_floor bigint)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
    return exists (
        select
        from jobrunner.outbox o
        where o.id > _floor
    );
end
$$;
