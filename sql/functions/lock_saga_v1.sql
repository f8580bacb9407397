-- The row of a saga, held until the end of the caller's transaction: one row, or none when no saga of this name and key was started.
-- _fenced: the caller runs under a claim. A process that freezes in the middle of its step would hold the row against whoever gets the
-- job next; the timeout ends its transaction. Lock order: sagas, then jobs.
create or replace function jobrunner.lock_saga_v1(_name text, _key text, _fenced boolean)
returns table (status text, state text, timeout_at timestamptz, correlation_id uuid)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
#variable_conflict use_column
begin
    if _fenced then
        perform set_config('idle_in_transaction_session_timeout', '10s', true);
    end if;
    return query
    select s.status, s.state::text, s.timeout_at, s.correlation_id
    from jobrunner.sagas s
    where s.name = _name
        and s.key = _key
    for update;
end
$$;
