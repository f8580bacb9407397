-- A person gives dead jobs another life: counters back to 0, evenly spread over _spread. Returns the ids that it requeued; ids
-- that are not dead, or that someone holds locked, are passed over. A keyed job goes to the end of the line of its key, unless
-- it holds it. Writes one audit row.
create or replace function jobrunner.op_requeue(
    _ids bigint[], _spread interval default '0', _actor text default session_user, _reason text default null
)
returns bigint[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off                     -- by id and not by place: the stamps are the places in the line of a key
set jit = off
as $$
declare
    _done  bigint[];
    _queues text[];
    _chosen bigint[];
begin
    select coalesce(array_agg(x.id order by x.id), '{}')
    into _chosen
    from (
        select j.id
        from jobrunner.jobs j
        where j.id = any (_ids)
            and j.state = 'dead'
        order by j.id
        for no key update skip locked
    ) x;
    with back as (                               -- by arrays and not by a join, as in seat_rows_v1
        update jobrunner.jobs j
        set state = case
                when _spread > interval '0' and j.id <> _chosen[1] then 'scheduled'
                when j.key is not null and not j.holds_key then 'blocked'
                else 'ready'
            end,
            blocked_on = case
                when (_spread <= interval '0' or j.id = _chosen[1]) and j.key is not null and not j.holds_key then 'arrival'
            end,
            -- Also of those that are ready now: they have not been due since they died.
            run_at = clock_timestamp() + case
                when _spread > interval '0' then _spread * ((array_position(_chosen, j.id) - 1) / cardinality(_chosen)::double precision)
                else interval '0'
            end,
            failures = 0,
            crashes = 0,
            finished_at = null,
            reason = 'requeued',
            seq = jobrunner.stamp()
        where j.id = any (_chosen)
        returning j.id, j.queue
    )
    select coalesce(array_agg(b.id order by b.id), '{}'), array_agg(distinct b.queue)
    into _done, _queues
    from back b;

    delete from jobrunner.cancel_requests c where c.job_id = any (_done);  -- it was about the former life

    insert into jobrunner.audit (actor, action, target, jobs, reason, detail)
    values (_actor, 'requeue', jobrunner.audit_target(_done), cardinality(_done), _reason, jsonb_build_object('spread', _spread));
    perform jobrunner.wake(_queues);
    return _done;
end
$$;
