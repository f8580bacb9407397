-- The events of deliveries.
select d.*
from jobrunner.load_deliveries_v1(%(args)b::text[]) d
