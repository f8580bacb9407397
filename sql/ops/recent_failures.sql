-- What failed within the last hour, by task and kind of error?
select
    coalesce(j.task, f.task) as task,
    a.outcome,
    a.error_type,
    count(*) as times,
    max(a.ended_at) as last_at,
    (array_agg(left(a.message, 120) order by a.ended_at desc))[1] as last_message
from jobrunner.attempts a
left join jobrunner.jobs j on j.id = a.job_id
left join jobrunner.finished_jobs f on f.id = a.job_id and j.id is null
where a.ended_at > now() - interval '1 hour'
    and a.outcome not in ('snoozed', 'handed_back')
group by 1, 2, 3
order by times desc
limit 50;
