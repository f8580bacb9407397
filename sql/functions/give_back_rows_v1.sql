-- Gives back these running jobs, all held FOR UPDATE by the caller (give_back_v1); returns how many. Only a lost runner counts as a
-- crash: one that stopped or goes on under a new id just hands back. A job that would die and cannot pass its turn on is left.
create or replace function jobrunner.give_back_rows_v1(_ids bigint[], _now timestamptz)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    _ended    bigint[];
    _dead     bigint[];
    _unwanted bigint[];
    _ends     text[];
    _queues   text[];
begin
    select coalesce(array_agg(j.id), '{}')
    into _dead
    from jobrunner.jobs j
    join jobrunner.runners r on r.id = j.runner_id
    where j.id = any (_ids)
        and j.crashes >= 2
        and r.ended = 'lost';
    _ids := jobrunner.may_end_v1(_ids, _dead);
    _ids := jobrunner.may_die_v1(_ids, _dead);

    with written as (
        insert into jobrunner.attempts (job_id, attempt, runner_id, started_at, ended_at, outcome, reason)
        select j.id, j.attempt, j.runner_id, j.started_at, _now, case when r.ended = 'lost' then 'crashed' else 'handed_back' end, r.ended
        from jobrunner.jobs j
        join jobrunner.runners r on r.id = j.runner_id
        where j.id = any (_ids)
        on conflict (job_id, attempt) do nothing
        returning job_id, attempt, outcome
    )
    delete from jobrunner.attempts a             -- as in settle_v1
    using written w
    where w.outcome = 'handed_back'
        and a.job_id = w.job_id
        and a.attempt < w.attempt
        and a.outcome = w.outcome;

    select coalesce(array_agg(x.id), '{}'), array_agg(r.ended)
    into _ids, _ends
    from jobrunner.jobs x
    join jobrunner.runners r on r.id = x.runner_id
    where x.id = any (_ids);
    _unwanted := array(select c.job_id from jobrunner.cancel_requests c where c.job_id = any (_ids));

    with back as (                               -- by arrays and not by a join, as in seat_rows_v1
        update jobrunner.jobs j
        set crashes = least(j.crashes + case when _ends[array_position(_ids, j.id)] = 'lost' then 1 else 0 end, 32767),
            state = case when j.id = any (_unwanted) then 'cancelled' when j.id = any (_dead) then 'dead' else 'ready' end,
            reason = case
                when j.id = any (_unwanted) then 'requested'
                when j.id = any (_dead) then 'crashed'
                else _ends[array_position(_ids, j.id)]
            end,
            finished_at = case when j.id = any (_unwanted || _dead) then _now end,
            seq = case when j.id = any (_unwanted || _dead) then j.seq else jobrunner.stamp() end,
            runner_id = null
        where j.id = any (_ids)
        returning j.id, j.state, j.queue
    )
    select
        array_agg(b.id) filter (where b.state <> 'ready'),
        array_agg(b.id) filter (where b.state = 'dead'),
        array_agg(distinct b.queue) filter (where b.state = 'ready')
    into _ended, _dead, _queues
    from back b;

    if _dead is not null then
        _dead := jobrunner.died_v1(_dead);
        _ended := array(select e.id from unnest(_ended) e (id) where e.id <> all (_dead));
    end if;
    if cardinality(_ended) > 0 then
        perform jobrunner.depart_v1(_ended, null, _now);
    end if;
    perform jobrunner.wake(_queues);
    return cardinality(_ids);
end
$$;
