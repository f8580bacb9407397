-- One adoption at a time, for as long as the transaction lasts.
select pg_try_advisory_xact_lock(727006)
