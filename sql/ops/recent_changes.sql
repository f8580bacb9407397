-- What did people change, who, and why?
select a.at, a.actor, a.action, left(a.target, 60) as target, a.jobs, a.reason, a.detail
from jobrunner.v_audit a
order by a.at desc
limit 50;
