-- Gives back up to _n running jobs of runners that are gone (all tombstones, or the one named): to ready; to dead at the
-- third crash; to cancelled when a person asked for it. Returns how many. SKIP LOCKED: a row that a frozen transaction holds stops
-- nobody; nor does a row whose update raises (a trigger, a constraint of somebody's own): it is reported and left, and the
-- next _n are looked at, ten times at most, so that bad rows are no wall for those behind them. Then up to 2 × _n go back.
create or replace function jobrunner.give_back_v1(_n integer, _runner bigint default null, _now timestamptz default null)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    _ids    bigint[];
    _id     bigint;
    _looked bigint[] := '{}';
    _back   integer := 0;
begin
    perform jobrunner.require_read_committed();
    for _page in 1 .. 10 loop
        select array_agg(l.id)
        into _ids
        from (
            select j.id
            from jobrunner.jobs j
            where j.state = 'running'
                and j.runner_id = any (array(    -- and not a join: it may read what the living hold
                    select r.id
                    from jobrunner.runners r
                    where r.lost_at is not null
                        and (_runner is null or r.id = _runner)
                ))
                and j.id <> all (_looked)
            limit _n                             -- no order: it would read all that they hold, and who skips needs none
            for update skip locked               -- as in settle_v1: some of them end here
        ) l;
        exit when _ids is null;
        _looked := _looked || _ids;

        begin
            _back := _back + jobrunner.give_back_rows_v1(_ids, coalesce(_now, now()));
        exception when others then               -- one of them is bad: each for itself, then
            foreach _id in array _ids loop
                begin
                    _back := _back + jobrunner.give_back_rows_v1(array[_id], coalesce(_now, now()));
                exception when others then
                    raise warning 'jobrunner: job % of a runner that is gone cannot be given back: %', _id, sqlerrm;
                end;
            end loop;
        end;
        exit when _back >= _n or cardinality(_ids) < _n;
    end loop;
    return _back;
end
$$;
