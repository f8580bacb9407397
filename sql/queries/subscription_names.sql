-- The subscriptions of one app.
select s.name
from jobrunner.subscriptions s
where s.app = %(app)s
order by s.name
