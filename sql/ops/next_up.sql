-- What runs next in each queue, and what keeps it from running? blocked_by is empty: a runner is about to take it. Else:
-- queue_paused: select jobrunner.op_resume('QUEUE'); subscription_paused: select jobrunner.op_resume_subscription('TASK');
-- no_runner, queue_unread, task_unknown: start a runner that reads the queue and has the code; slots_busy: see running_too_long.
select n.queue, n.place, n.id, n.task, n.priority, date_trunc('second', n.wait) as wait, n.key, n.blocked_by
from jobrunner.v_ready_next n
where n.place <= 10
order by n.queue, n.place;
