-- settle, by the clock: now() stands still in a test's transaction.
select jobrunner.settle_v1(%(runner)s, %(rows)s, clock_timestamp())
