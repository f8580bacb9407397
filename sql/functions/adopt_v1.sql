-- Takes what a runner still has in hand over to its new id, fenced by the old one; returns the ids that are its own now. What
-- is not returned was given back or settled meanwhile. The old id becomes a tombstone, so that a claim of it whose answer was
-- lost is found and given back (not as a crash). Atomic. Waits 2 s for a row
-- that someone holds (a handler that commits, a person), then fails: call it again.
create or replace function jobrunner.adopt_v1(_old bigint, _new bigint, _ids bigint[], _attempts integer[])
returns bigint[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set lock_timeout = '2s'
as $$
declare
    _mine bigint[];
begin
    update jobrunner.runners r
    set lost_at = clock_timestamp(),
        ended = 'renewed'
    where r.id = _old
        and r.lost_at is null;
    with taken as (
        update jobrunner.jobs j
        set runner_id = _new
        where j.id = any (_ids)
            and j.attempt = _attempts[array_position(_ids, j.id)]
            and j.runner_id + 0 = _old
        returning j.id
    )
    select coalesce(array_agg(t.id), '{}') into _mine from taken t;
    return _mine;
end
$$;
