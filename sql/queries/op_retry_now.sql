-- Scheduled jobs (a retry among them) become ready now; writes audit.
select jobrunner.op_retry_now(%(ids)s::bigint[], %(actor)s, %(reason)s)
