-- Whatever this transaction enqueues and publishes was caused by this job, and by the event that it handles.
select
    set_config('jobrunner.cause_job_id', %(id)s, true),
    set_config('jobrunner.cause_event', %(event)s, true),
    set_config('jobrunner.correlation_id', %(correlation)s, true)
