-- One scan for dead runners: how many were declared lost, how many jobs went back.
select r.lost, r.rescued
from jobrunner.rescue_v1(%(n)s) r
