-- Takes the sequencer's lock to the end of the transaction, and waits for it: for what must not happen beside a step. A session that
-- leaves its transaction open would stop every event: it is ended after 10 s of idleness.
create or replace function jobrunner.lock_log()
returns void
language plpgsql
as $$
begin
    perform jobrunner.require_read_committed();
    perform set_config('idle_in_transaction_session_timeout', '10s', true);
    perform pg_advisory_xact_lock(727004);
end
$$;
