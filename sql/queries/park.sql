-- Ready jobs of unknown tasks out of the way: how many were parked, how many looked at.
select p.parked, p.seen
from jobrunner.park_v1(%(queue)s, %(n)s) p
