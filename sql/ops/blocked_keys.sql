-- Which keys does a dead delivery block, and how many events wait behind it? select jobrunner.op_resolve_key('SUBSCRIPTION', 'KEY', 'retry');
select
    k.subscription, k.key, k.job_id, k.position, date_trunc('second', now() - k.since) as blocked_for, k.waiting, k.reason,
    left(k.error, 120) as error
from jobrunner.v_key_blocked k
order by k.waiting desc, k.since
limit 50;
