-- The payloads and headers of these events. Not by a view: who may only look does not see them.
select e.position, e.data, e.headers
from jobrunner.events e
where e.position = any (%(positions)s::bigint[])
