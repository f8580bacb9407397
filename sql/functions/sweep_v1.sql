-- Departs up to _n jobs that ended in place and whose runner did not get to it (a crash after ctx.transaction()); returns
-- how many. Meeting the settler that is about to do the same is harmless: one of them finds the row locked or gone.
create or replace function jobrunner.sweep_v1(_n integer, _now timestamptz default null)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _ids bigint[];
begin
    _now := coalesce(_now, now());
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
            order by x.finished_at
            limit _n
        ) j
    ) e;
    if _ids is null then
        return 0;
    end if;
    return jobrunner.depart_v1(_ids, null, _now);
end
$$;
