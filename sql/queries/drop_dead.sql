-- Dead jobs that nobody wanted back in all their time, at most n: how many.
select jobrunner.drop_dead_v1(%(n)s)
