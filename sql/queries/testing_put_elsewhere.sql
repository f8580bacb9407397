-- procrastinate_retry, by the clock: now() stands still in a test's transaction.
select jobrunner.procrastinate_retry_v1(
    %(id)s, %(attempt)s::integer, %(runner)s::bigint, clock_timestamp() + %(delay)s, %(priority)s::smallint, %(queue)s, %(lock)s,
    %(failure)s
)
