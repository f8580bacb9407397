-- Declares the runners lost that have not beaten for their ttl; returns how many. The row lock re-checks the beat, and skips a
-- row that someone holds: a runner that was only looked at in psql (for update) would stop every scan there is. The jobs
-- are given back by a later statement (give_back_v1): a claim that commits after this one must be found by it.
create or replace function jobrunner.mark_lost_v1(_now timestamptz default null)
returns integer
language plpgsql
as $$
declare
    _lost integer;
begin
    _now := coalesce(_now, now());
    update jobrunner.runners r
    set lost_at = _now,
        ended = 'lost'
    where r.id = any (array(
        select x.id
        from jobrunner.runners x
        where x.lost_at is null
            and x.beat_at < _now - x.ttl
        for no key update skip locked
    ));
    get diagnostics _lost = row_count;
    return _lost;
end
$$;
