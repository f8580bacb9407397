-- Declares the runners lost that have not beaten for their ttl; returns how many. The row lock re-checks the beat. The jobs
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
    where r.lost_at is null
        and r.beat_at < _now - r.ttl;
    get diagnostics _lost = row_count;
    return _lost;
end
$$;
