-- finish, by the clock: now() stands still in a test's transaction.
select jobrunner.finish_v1(%(runner)s, %(ids)s::bigint[], %(attempts)s::integer[], %(results)s::jsonb[], clock_timestamp())
