-- Gives the turn to the first in line of every key that nobody holds: after a person deleted a holder by hand. Returns how
-- many keys it mended. Waits for the seat step, then walks the waiting keys one by one (a loose index scan). A first in line that
-- somebody holds (to cancel it, say) is left for the next call.
create or replace function jobrunner.repair_keys_v1()
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set jit = off
set lock_timeout = '2s'
as $$
declare
    _mended integer;
begin
    perform jobrunner.require_read_committed();
    perform pg_advisory_xact_lock(727001);
    with recursive keys as (
        (
            select j.key
            from jobrunner.jobs j
            where j.blocked_on = 'key'
            order by j.key
            limit 1
        )
        union all
        select (
            select j.key
            from jobrunner.jobs j
            where j.blocked_on = 'key'
                and j.key > k.key
            order by j.key
            limit 1
        )
        from keys k
        where k.key is not null
    ),
    orphaned as (
        select (
            select w.id
            from jobrunner.jobs w
            where w.key = k.key
                and w.blocked_on = 'key'
            order by w.key_pos
            limit 1
        ) as id
        from keys k
        where k.key is not null
            and not exists (select from jobrunner.jobs h where h.key = k.key and h.holds_key)
    )
    update jobrunner.jobs j
    set state = 'ready',
        blocked_on = null,
        holds_key = true,
        seq = jobrunner.stamp()
    where j.id = any (array(
        select w.id
        from jobrunner.jobs w
        where w.id = any (array(select o.id from orphaned o))
            and w.blocked_on = 'key'
        for no key update skip locked
    ));
    get diagnostics _mended = row_count;
    return _mended;
end
$$;
