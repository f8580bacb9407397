-- One step of one walk over the log: which, how many deliveries, is there more at once, is it near the present, does one wait?
select r.walk, r.delivered, r.more, r.near, r.waits
from jobrunner.replay_step_v1(%(n)s, %(last)s) r
