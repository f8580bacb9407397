-- Which running jobs take the longest? (A runner that is not alive is in lost_runners.sql.) To stop one: select * from jobrunner.op_cancel(array[ID]);
select
    r.id, r.queue, r.task, r.attempt, date_trunc('second', r.runtime) as runs_for, r.host, r.pid, r.runner_state,
    case when r.cancel_requested_at is not null then 'cancel requested' end as note
from jobrunner.v_running r
where r.runtime > interval '5 minutes'
order by r.started_at
limit 50;
