-- Good-bye: how many jobs went back.
select jobrunner.stop_v1(%(runner)s)
