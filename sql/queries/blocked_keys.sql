-- The keys of one subscription that dead deliveries block, the longest first.
select k.subscription, k.key, k.job_id, k.position, k.since, k.reason, k.error, k.waiting
from jobrunner.v_key_blocked k
where k.subscription = %(name)s
order by k.since, k.job_id
limit %(limit)s
