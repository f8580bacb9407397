-- How much is done, minute by minute, and how does it end? A gap: nothing ran; see queue_depth and runners (lost_runners).
select
    t.minute, t.queue,
    sum(t.n) filter (where t.outcome = 'succeeded') as succeeded,
    sum(t.n) filter (where t.outcome = 'cancelled') as cancelled,
    sum(t.n) filter (where t.outcome not in ('succeeded', 'cancelled', 'snoozed', 'handed_back')) as failed,
    sum(t.n) filter (where t.outcome in ('snoozed', 'handed_back')) as put_off,
    round((sum(t.avg_wait_s * t.n) / nullif(sum(t.n) filter (where t.avg_wait_s is not null), 0)), 3) as avg_wait_s,
    round((sum(t.avg_run_s * t.n) / nullif(sum(t.n) filter (where t.avg_run_s is not null), 0)), 3) as avg_run_s
from jobrunner.v_throughput t
where t.minute > now() - interval '30 minutes'
group by t.minute, t.queue
order by t.minute desc, t.queue;
