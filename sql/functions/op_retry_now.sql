-- A person does not wait for the time of scheduled jobs (a retry among them): they become ready now. Returns the ids.
create or replace function jobrunner.op_retry_now(_ids bigint[], _actor text default session_user, _reason text default null)
returns bigint[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    return jobrunner.op_reschedule(_ids, now(), _actor, _reason);
end
$$;
