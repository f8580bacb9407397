-- Whatever this transaction enqueues was caused by this job.
select
    set_config('jobrunner.cause_job_id', %(id)s, true),
    set_config('jobrunner.correlation_id', %(correlation)s, true)
