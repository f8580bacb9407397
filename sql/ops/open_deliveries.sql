-- Which deliveries are open, the oldest first? select jobrunner.why(JOB_ID) says why one waits. (Add: where d.subscription = 'NAME'.)
select
    d.subscription, d.job_id, d.position, d.event_type, d.key, d.state, d.blocked_on, d.attempt, d.failures, d.run_at, d.replay,
    left(d.error, 120) as error
from jobrunner.v_delivery_open d
order by d.job_id
limit 50;
