-- Which tasks became slow, and which fail? The last hour beside the day before (seconds that a start took; reads a day of history).
-- For the failures: recent_failures; for what runs now: running_too_long.
select
    t.task, t.runners, t.n_1h, t.failed_1h, t.fail_ratio_1h, t.p50_s, t.p95_s, d.p95_s as p95_s_day_before,
    round((t.p95_s / nullif(d.p95_s, 0)), 1) as times_slower
from jobrunner.v_task t
left join (
    select
        j.task,
        round((percentile_cont(0.95) within group (order by extract(epoch from j.finished_at - j.started_at)))::numeric, 3) as p95_s
    from jobrunner.v_job j
    where j.state = 'succeeded'
        and j.finished_at between now() - interval '25 hours' and now() - interval '1 hour'
    group by j.task
) d on d.task = t.task
where t.n_1h > 0
order by times_slower desc nulls last, t.fail_ratio_1h desc nulls last, t.task
limit 50;
