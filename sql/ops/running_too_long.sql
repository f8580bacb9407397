-- Which running jobs take the longest? (Set the limit by hand; a runner that is not alive is in lost_runners.sql.)
select
    j.id, j.queue, j.task, j.attempt, now() - j.started_at as runs_for, r.host, r.pid, r.state as runner_state,
    case when c.job_id is not null then 'cancel requested' end as note
from jobrunner.jobs j
left join jobrunner.v_runner r on r.runner = j.runner_id
left join jobrunner.cancel_requests c on c.job_id = j.id
where j.state = 'running'
    and j.started_at < now() - interval '5 minutes'
order by j.started_at
limit 50;
