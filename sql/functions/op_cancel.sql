-- A person cancels jobs. What waits is cancelled at once; what runs is asked to stop: its runner hears it with the next beat
-- (5 s), and whatever the handler does then, it is not tried again. A job that holds its key ends in place, and the sweep of any
-- runner passes its turn on (at once when one listens, else within 5 s): this transaction holds rows that others wait for, so it
-- must wait for none. A request that meets the end of an attempt is honoured by the sweep too. Returns one row an id: cancelled |
-- requested | busy (someone holds the row: again, please) | over (finished before, or unknown). Dead jobs are discarded (op_discard).
create or replace function jobrunner.op_cancel(_ids bigint[], _actor text default session_user, _reason text default null)
returns table (id bigint, result text)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
    _ended     bigint[];
    _free      bigint[];
    _requested bigint[];
begin
    perform jobrunner.require_read_committed();
    with ended as (
        update jobrunner.jobs j
        set state = 'cancelled',
            blocked_on = null,
            finished_at = now(),
            reason = coalesce(_reason, 'cancelled by ' || _actor)
        where j.id = any (array(
            select x.id
            from jobrunner.jobs x
            where x.id = any (_ids)
                and x.state in ('scheduled', 'ready', 'blocked')
            order by x.id
            for update skip locked
        ))
        returning j.id, j.holds_key
    )
    select coalesce(array_agg(e.id), '{}'), array_agg(e.id) filter (where not e.holds_key)
    into _ended, _free
    from ended e;
    perform jobrunner.depart_v1(_free, null);
    if coalesce(cardinality(_free), 0) < cardinality(_ended) then
        perform pg_notify('jobrunner', 'look');
    end if;

    with requested as (
        insert into jobrunner.cancel_requests (job_id, actor, reason)
        select j.id, _actor, _reason
        from jobrunner.jobs j
        where j.id = any (_ids)
            and j.runner_id is not null          -- it runs; naming the state makes an index eligible that has all that run
        order by j.id
        on conflict (job_id) do update
        set actor = excluded.actor
        returning job_id
    )
    select coalesce(array_agg(r.job_id), '{}') into _requested from requested r;

    insert into jobrunner.audit (actor, action, target, jobs, reason, detail)
    values (
        _actor, 'cancel', jobrunner.audit_target(_ended || _requested), cardinality(_ended || _requested), _reason,
        jsonb_build_object('requested', cardinality(_requested))
    );
    return query
    select
        i.id,
        case
            when i.id = any (_ended) then 'cancelled'
            when i.id = any (_requested) then 'requested'
            when j.state in ('scheduled', 'ready', 'blocked') then 'busy'
            else 'over'
        end
    from unnest(_ids) with ordinality i (id, n)
    left join lateral (select x.state from jobrunner.jobs x where x.id = i.id limit 1) j on true
    order by i.n;
end
$$;
