-- A person gives dead jobs another life: counters back to 0, evenly spread over _spread. Returns the ids that it requeued; ids
-- that are not dead, or that someone holds locked, are passed over. A keyed job goes to the end of the line of its key, unless
-- it holds it. Writes one audit row.
create or replace function jobrunner.op_requeue(
    _ids bigint[], _spread interval default '0', _actor text default session_user, _reason text default null
)
returns bigint[]
language plpgsql
set enable_seqscan = off
set jit = off
as $$
declare
    _done  bigint[];
    _queues text[];
begin
    with chosen as (
        select x.id, row_number() over (order by x.id) as n, count(*) over () as many
        from (
            select j.id
            from jobrunner.jobs j
            where j.id = any (_ids)
                and j.state = 'dead'
            order by j.id
            for no key update skip locked
        ) x
    ),
    back as (
        update jobrunner.jobs j
        set state = f.state,
            blocked_on = case when f.state = 'blocked' then 'arrival' end,
            run_at = f.due,                              -- also of those that are ready now: they have not been due since they died
            failures = 0,
            crashes = 0,
            finished_at = null,
            reason = 'requeued',
            seq = jobrunner.stamp()
        from (
            select
                c.id,
                clock_timestamp() + _spread * ((c.n - 1) / c.many::double precision) as due,
                case
                    when _spread > interval '0' and c.n > 1 then 'scheduled'
                    when x.key is not null and not x.holds_key then 'blocked'
                    else 'ready'
                end as state
            from chosen c
            join jobrunner.jobs x on x.id = c.id
        ) f
        where j.id = f.id
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
