-- Who still needs this day of the log? Nobody: it may go.
select jobrunner.free_day_v1(%(day)s)
