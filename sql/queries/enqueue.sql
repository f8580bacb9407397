-- One job in the caller's transaction: its id.
select jobrunner.enqueue(
    %(task)s, %(args)s, %(queue)s, %(priority)s::smallint, %(run_at)s, %(delay)s, %(key)s, %(unique_key)s, %(subject)s,
    %(version)s::smallint, %(max_attempts)s, %(headers)s, %(notify)s, %(unique_until)s, %(correlation_id)s, %(cause_job_id)s
)
