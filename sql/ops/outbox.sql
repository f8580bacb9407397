-- Does anything wait to be moved into the log, and since when? Normally nothing does; any live runner moves it.
select
    o.pending,
    date_trunc('milliseconds', o.oldest_age) as oldest_age,
    o.oldest_id,
    o.head_position,
    now() - o.head_recorded_at as last_recorded_ago,
    (select count(*) from jobrunner.v_runner r where r.state = 'alive') as live_runners
from jobrunner.v_outbox o;
