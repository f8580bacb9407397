-- The subscriptions that want events of a type.
select s.name
from jobrunner.subscriptions s
where '.' || %(type)s ~ s.pattern
order by s.name
