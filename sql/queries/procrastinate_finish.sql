-- The end of a job as procrastinate's worker says it: settled, busy or stale.
select jobrunner.procrastinate_finish_v1(
    %(id)s, %(attempt)s::integer, %(runner)s::bigint, %(status)s, %(delete)s, %(failure)s
) as verdict
