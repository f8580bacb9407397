-- What failed within the last hour, by task and kind of error? What died of it: dead_groups; what is tried again: retrying.
select
    j.task,
    a.outcome,
    a.error_type,
    count(*) as times,
    max(a.ended_at) as last_at,
    (array_agg(left(a.message, 120) order by a.ended_at desc))[1] as last_message
from jobrunner.v_attempt a
left join jobrunner.v_job j on j.id = a.job_id
where a.ended_at > now() - interval '1 hour'
    and a.outcome not in ('snoozed', 'handed_back')
group by 1, 2, 3
order by times desc
limit 50;
