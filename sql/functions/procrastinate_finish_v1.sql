-- Ends a job that runs, as procrastinate's worker says: succeeded, failed (dead, for a person) or aborted. Fenced by (id, attempt,
-- runner); where nobody remembers the claim (_runner null) by the one that has it now. _failure: error, error_type, message,
-- traceback. Returns settled, busy (someone holds the row, or the next in line: again, please) or stale (the claim is gone).
create or replace function jobrunner.procrastinate_finish_v1(
    _id bigint, _attempt integer, _runner bigint, _status text, _delete boolean, _failure jsonb default '{}'
)
returns text
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _done bigint[] := '{}';
begin
    if _status is null or _status not in ('succeeded', 'failed', 'aborted') then
        raise exception 'jobrunner: a job ends as succeeded, failed or aborted, not as %', _status using errcode = 'JR003';
    end if;
    if _runner is null then
        select j.attempt, j.runner_id
        into _attempt, _runner
        from jobrunner.jobs j
        where j.id = _id
            and j.runner_id is not null;
        if not found then
            return 'stale';
        end if;
    end if;

    if _status = 'succeeded' then
        _done := jobrunner.finish_v1(_runner, array[_id], array[_attempt]);
    end if;
    if _done = '{}' then
        _done := jobrunner.settle_v1(_runner, jsonb_build_array(_failure || jsonb_build_object(
            'id', _id,
            'attempt', _attempt,
            'state', case when _status = 'succeeded' then _status when _status = 'failed' and not _delete then 'dead' else 'cancelled' end,
            'failed', _status = 'failed',
            'reason', case _status when 'failed' then 'exhausted' when 'aborted' then 'aborted' end,
            'outcome', case _status when 'failed' then 'failed' when 'aborted' then 'cancelled' end
        )));
    end if;
    if _done = '{}' then
        return (select v.verdict from jobrunner.verdict_v1(_runner, array[_id], array[_attempt]) v);
    end if;
    if _delete then
        perform jobrunner.procrastinate_forget_v1(_done);
    end if;
    return 'settled';
end
$$;
