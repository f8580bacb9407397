-- Holds a running job still until the end of the caller's transaction, without ending it: true when the claim is still this
-- one's. FOR SHARE and not FOR KEY SHARE: the weaker lock would let a rescue pass.
create or replace function jobrunner.fence_v1(_runner bigint, _id bigint, _attempt integer)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    perform set_config('idle_in_transaction_session_timeout', '10s', true);
    perform 1
    from jobrunner.jobs j
    where j.id = _id
        and j.attempt = _attempt
        and j.runner_id + 0 = _runner
    for share;
    return found;
end
$$;
