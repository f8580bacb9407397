-- A person gives dead jobs up: they go to history as cancelled, and the turn of a key that they held is passed on by
-- the sweep of any runner (at once when one listens, else within 5 s). Returns the ids. Writes one audit row.
create or replace function jobrunner.op_discard(_ids bigint[], _actor text default session_user, _reason text default null)
returns bigint[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    _done bigint[];
    _free bigint[];
begin
    perform jobrunner.require_read_committed();
    with ended as (
        update jobrunner.jobs j
        set state = 'cancelled',
            finished_at = now(),
            reason = 'discarded'
        where j.id = any (array(
            select x.id
            from jobrunner.jobs x
            where x.id = any (_ids)
                and x.state = 'dead'
            order by x.id
            for update skip locked
        ))
        returning j.id, j.holds_key
    )
    select coalesce(array_agg(e.id order by e.id), '{}'), array_agg(e.id) filter (where not e.holds_key)
    into _done, _free
    from ended e;
    perform jobrunner.depart_v1(_free, null);
    if coalesce(cardinality(_free), 0) < cardinality(_done) then
        perform pg_notify('jobrunner', 'look');
    end if;
    insert into jobrunner.audit (actor, action, target, jobs, reason)
    values (_actor, 'discard', jobrunner.audit_target(_done), cardinality(_done), _reason);
    return _done;
end
$$;
