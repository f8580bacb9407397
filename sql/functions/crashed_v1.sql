-- Its process is dead, says the parent that waited for it: declares the runner lost now, as mark_lost_v1 would at the end of its
-- ttl, and gives back what it held. Call it again while something is held (by a transaction whose server process has not heard
-- yet), and once more later: a claim may have been under way. A runner that stopped, or goes on under a new id, just hands back.
create or replace function jobrunner.crashed_v1(_runner bigint, out back integer, out held bigint)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set lock_timeout = '2s'
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _r record;
begin
    update jobrunner.runners r
    set lost_at = clock_timestamp(),
        ended = 'lost'
    where r.id = _runner
        and r.lost_at is null
    returning r.id, r.app, r.host, r.pid, r.beat_at
    into _r;
    if found then
        perform jobrunner.publish_system(
            'runner.lost',
            jsonb_build_object('runner', _r.id::text, 'app', _r.app, 'host', _r.host, 'pid', _r.pid, 'beat_at', _r.beat_at),
            'runner:' || _r.id
        );
    end if;

    back := jobrunner.give_back_v1(100000, _runner);
    select count(*)
    into held
    from jobrunner.jobs j
    where j.state = 'running'
        and j.runner_id = _runner;
end
$$;
