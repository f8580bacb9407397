-- What a handler's transaction sets for as long as it lasts, and a test's transaction lasts longer: whose effects these are, and a
-- limit on idling that would end the test in a debugger.
select
    set_config('jobrunner.cause_job_id', '', true),
    set_config('jobrunner.cause_event', '', true),
    set_config('jobrunner.correlation_id', '', true),
    set_config('idle_in_transaction_session_timeout', %(idle)s, true)
