-- An old day, off its table, for a runner that does not own it.
select jobrunner.detach_day_v1(%(table)s, %(day)s)
