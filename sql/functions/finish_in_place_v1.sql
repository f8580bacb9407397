-- Ends a running job inside the caller's own transaction, in any isolation level: the caller's rows and the completion
-- commit in one. True when the fence held; false (or 40001 above READ COMMITTED) when the claim is no longer this one's.
-- Touches the job's row only: history and keys are depart_v1's, in a transaction of its own. A process that freezes between
-- here and its commit would hold the row; the timeout ends its transaction, so that rescue can go on.
create or replace function jobrunner.finish_in_place_v1(_runner bigint, _id bigint, _attempt integer)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    perform set_config('idle_in_transaction_session_timeout', '10s', true);
    update jobrunner.jobs j
    set state = 'succeeded',
        finished_at = now(),
        runner_id = null
    where j.id = _id
        and j.attempt = _attempt
        and j.runner_id + 0 = _runner;
    return found;
end
$$;
