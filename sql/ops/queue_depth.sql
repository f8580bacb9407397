-- How much waits in each queue, and who reads it? A paused one goes on with: select jobrunner.op_resume('QUEUE');
select
    q.queue, q.ready, q.scheduled, q.retrying, q.blocked, q.running, q.dead, date_trunc('second', q.oldest_ready_age) as oldest_ready,
    q.runners, q.slots, q.paused_at, q.paused_by, q.pause_reason
from jobrunner.v_queue q
order by q.ready desc, q.queue;
