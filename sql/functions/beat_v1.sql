-- One heartbeat: alive is false when the runner was declared lost (it must not go on under this id); cancel has the ids of its
-- jobs that a person asked to cancel.
create or replace function jobrunner.beat_v1(_runner bigint, _busy integer, _listening boolean, out alive boolean, out cancel bigint[])
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
    update jobrunner.runners r
    set beat_at = clock_timestamp(),
        busy = _busy,
        listening = _listening
    where r.id = _runner
        and r.lost_at is null;
    alive := found;
    select coalesce(array_agg(c.job_id), '{}')
    into cancel
    from jobrunner.cancel_requests c
    cross join lateral (
        select x.id
        from jobrunner.jobs x
        where x.id = c.job_id
            and x.runner_id + 0 = _runner
        limit 1
    ) j;
end
$$;
