-- Which keys have jobs in line, how many, and behind which job?
select
    w.key,
    w.waiting,
    now() - w.since as oldest,
    h.id as holder,
    h.state as holder_state,
    h.task as holder_task,
    now() - h.started_at as holder_runs_for
from (
    select j.key, count(*) as waiting, min(j.created_at) as since
    from jobrunner.jobs j
    where j.blocked_on = 'key'
    group by j.key
    order by waiting desc
    limit 30
) w
left join jobrunner.jobs h on h.key = w.key and h.holds_key
order by w.waiting desc, w.key;
