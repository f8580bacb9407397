-- Before the transaction of a test: today's partitions, and those of the next hour, are there. A test that had to make them would hold
-- up all others.
select jobrunner.ensure_partition(now()), jobrunner.ensure_partition(now() + interval '1 hour')
