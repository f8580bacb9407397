-- A day that is old and detached, dropped.
select jobrunner.drop_day_v1(%(table)s, %(day)s)
