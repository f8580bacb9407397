-- Departs up to _n jobs that ended in place and whose runner did not get to it (a crash after ctx.transaction()); returns
-- how many. _after leaves the newest alone: their own settler is about to do it.
create or replace function jobrunner.sweep_v1(_n integer, _after interval default '1 s', _now timestamptz default null)
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
                and x.finished_at <= _now - _after
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
