-- Makes ready what is due by a test's clock, which is ahead of the server's: how many.
select jobrunner.promote_v1(1000, '-infinity', clock_timestamp() + %(ahead)s)
