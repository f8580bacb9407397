-- One step of one walk over the log: which, how many deliveries, is there more at once, is it near the present?
select r.walk, r.delivered, r.more, r.near
from jobrunner.replay_step_v1(%(n)s, %(last)s) r
