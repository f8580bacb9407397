-- The process of this runner is dead: how many jobs went back, and how many somebody still holds.
select c.back, c.held
from jobrunner.crashed_v1(%(runner)s) c
