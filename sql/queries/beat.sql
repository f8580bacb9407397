-- One heartbeat: is this runner still alive, and which of its jobs should stop?
select b.alive, b.cancel
from jobrunner.beat_v1(%(runner)s, %(busy)s, %(listening)s) b
