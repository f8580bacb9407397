-- A running or failed job put back: settled, stale or gone.
select jobrunner.procrastinate_retry_v1(
    %(id)s, %(attempt)s::integer, %(runner)s::bigint, %(at)s, %(priority)s::smallint, %(queue)s, %(lock)s, %(failure)s
) as verdict
