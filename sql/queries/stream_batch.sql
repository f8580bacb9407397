-- The next batch of a stream.
select b.*
from jobrunner.stream_batch_v1(%(name)s, %(n)s) b
