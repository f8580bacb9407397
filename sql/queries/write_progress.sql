-- How far jobs are, many at a time.
select jobrunner.write_progress_v1(%(rows)s)
