-- A person moves waiting jobs (scheduled, or ready without a key) to another time; a time that has come makes them ready.
-- Returns the ids. Writes one audit row.
create or replace function jobrunner.op_reschedule(_ids bigint[], _at timestamptz, _actor text default session_user, _reason text default null)
returns bigint[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _done  bigint[];
    _queues text[];
begin
    with moved as (
        update jobrunner.jobs j
        set state = case when _at > clock_timestamp() then 'scheduled' when j.key is null or j.holds_key then 'ready' else 'blocked' end,
            blocked_on = case when _at <= clock_timestamp() and j.key is not null and not j.holds_key then 'arrival' end,
            run_at = greatest(_at, clock_timestamp()),
            seq = jobrunner.stamp()
        where j.id = any (array(
            select x.id
            from jobrunner.jobs x
            where x.id = any (_ids)
                and (x.state = 'scheduled' or (x.state = 'ready' and x.key is null))
            order by x.id
            for no key update skip locked
        ))
        returning j.id, j.queue
    )
    select coalesce(array_agg(m.id order by m.id), '{}'), array_agg(distinct m.queue)
    into _done, _queues
    from moved m;

    insert into jobrunner.audit (actor, action, target, jobs, reason, detail)
    values (_actor, 'reschedule', jobrunner.audit_target(_done), cardinality(_done), _reason, jsonb_build_object('run_at', _at));
    perform jobrunner.wake(_queues);
    return _done;
end
$$;
