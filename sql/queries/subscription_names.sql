-- The subscriptions of one app.
select s.name
from jobrunner.v_subscription s
where s.app = %(app)s
order by s.name
