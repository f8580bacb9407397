-- Puts a running job back, or a failed one, with another priority, queue or lock where they are given. Fenced as
-- procrastinate_finish_v1. A running job that was asked to stop fails instead, as in procrastinate. A new lock leaves the old key,
-- whose turn is passed on (as an end does it, in this transaction: nobody sees that end), and arrives at the new one.
-- Returns settled (also by an earlier try, whose answer was lost), stale (another has the claim) or gone (neither running nor
-- failed). 55P03: someone holds a row: again, please.
create or replace function jobrunner.procrastinate_retry_v1(
    _id bigint, _attempt integer, _runner bigint, _at timestamptz, _priority smallint, _queue text, _lock text, _failure jsonb default '{}'
)
returns text
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set lock_timeout = '250ms'
as $$
declare
    _job    jobrunner.jobs;
    _unwanted boolean;
    _later  boolean := _at > now();
    _leaves boolean;
begin
    perform jobrunner.require_read_committed();
    select j.*
    into _job
    from jobrunner.jobs j
    where j.id = _id
        and j.state in ('running', 'dead')
    for update;
    if _runner is null then
        if not found then
            return 'gone';
        end if;
        _attempt := _job.attempt;
        _runner := _job.runner_id;
    elsif not found or _job.attempt <> _attempt or _job.runner_id is distinct from _runner then
        return (select v.verdict from jobrunner.verdict_v1(_runner, array[_id], array[_attempt]) v);
    end if;

    if _job.state = 'dead' then
        perform jobrunner.op_requeue(array[_id], _reason => 'retried by procrastinate');
    else
        _unwanted := exists (select from jobrunner.cancel_requests c where c.job_id = _id);
        if jobrunner.settle_v1(_runner, jsonb_build_array(_failure || jsonb_build_object(
            'id', _id,
            'attempt', _attempt,
            'state', case when _unwanted then 'dead' else 'scheduled' end,
            'delay', 0,
            'failed', true,
            'reason', case when _unwanted then 'requested' end,
            'outcome', 'failed'
        ))) = '{}' then
            raise exception 'jobrunner: job % cannot end now, someone holds the next of its lock', _id using errcode = '55P03';
        end if;
        if _unwanted then
            return 'settled';
        end if;
    end if;

    _leaves := _lock is not null and _lock is distinct from _job.key;
    if _leaves and _job.holds_key then
        update jobrunner.jobs j
        set state = 'dead',
            finished_at = now()
        where j.id = _id;
        if jobrunner.depart_v1(array[_id]) = 0 then
            raise exception 'jobrunner: job % cannot leave its lock now, someone holds the next of it', _id using errcode = '55P03';
        end if;
    end if;
    update jobrunner.jobs j
    set state = case when _later then 'scheduled' when coalesce(_lock, j.key) is null or j.holds_key then 'ready' else 'blocked' end,
        blocked_on = case when not _later and coalesce(_lock, j.key) is not null and not j.holds_key then 'arrival' end,
        key = coalesce(_lock, j.key),
        queue = coalesce(_queue, j.queue),
        priority = coalesce(_priority, j.priority),
        run_at = _at,
        finished_at = null,
        seq = jobrunner.stamp()
    where j.id = _id
    returning j.* into _job;
    if not _later then
        perform jobrunner.wake(_job.queue);
    end if;
    return 'settled';
end
$$;
