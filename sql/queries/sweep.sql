-- Jobs that ended in place and were left behind: how many were taken care of.
select jobrunner.sweep_v1(%(n)s)
