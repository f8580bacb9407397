-- depart, by the clock: now() stands still in a test's transaction.
select jobrunner.depart_v1(%(ids)s::bigint[], %(runner)s, clock_timestamp())
