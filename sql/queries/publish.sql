-- One event in the caller's transaction: its id.
select jobrunner.publish(
    %(type)s, %(data)s, %(version)s::smallint, %(key)s, %(subject)s, %(headers)s, %(source)s, %(event_id)s, %(notify)s,
    %(correlation_id)s, %(cause_job_id)s, %(cause_event)s
)
