-- What hangs on the jobs of a detached day, a page of them: the last id, null after the last page.
select jobrunner.forget_day_v1(%(day)s, %(after)s, %(n)s)
