-- The history's partitions for today and the days ahead: how many were missing.
select jobrunner.make_partitions(now(), %(days)s)
