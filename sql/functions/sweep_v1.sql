-- Departs some _n jobs that ended in place and whose runner did not get to it (a crash after ctx.transaction()); returns
-- how many. Meeting the settler that is about to do the same is harmless: one of them finds the row locked or gone. While some
-- cannot depart (their next in line is held) the next _n are looked at, ten times at most. First it cancels what waits in spite of a
-- request to cancel: one that landed after the settlement of its attempt had looked for requests.
create or replace function jobrunner.sweep_v1(_n integer, _now timestamptz default null)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set lock_timeout = '2s'
as $$
declare
    _ids    bigint[];
    _looked bigint[] := '{}';
    _gone   integer := 0;
begin
    _now := coalesce(_now, now());
    update jobrunner.jobs j
    set state = 'cancelled',
        blocked_on = null,
        finished_at = _now,
        reason = coalesce((select c.reason from jobrunner.cancel_requests c where c.job_id = j.id), 'requested')
    where j.id = any (array(
        select x.id
        from jobrunner.cancel_requests r
        cross join lateral (
            select y.id
            from jobrunner.jobs y
            where y.id = r.job_id
                and y.runner_id is null          -- it waits; naming the states makes indexes eligible that have all that wait
                and y.finished_at is null
            limit 1
            for update skip locked
        ) x
        limit _n
    ));

    for _page in 1 .. 10 loop
        select array_agg(e.id)
        into _ids
        from (
            select j.id
            from unnest(array['succeeded', 'cancelled']) s (state)
            cross join lateral (
                select x.id
                from jobrunner.jobs x
                where x.state = s.state
                    and x.finished_at is not null
                    and x.id <> all (_looked)
                order by x.finished_at
                limit _n
            ) j
        ) e;
        exit when _ids is null;
        _looked := _looked || _ids;
        _gone := _gone + jobrunner.depart_v1(_ids, null, _now);
        exit when _gone >= _n or cardinality(_ids) < _n;
    end loop;
    return _gone;
end
$$;
