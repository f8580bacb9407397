-- Which runners fell silent or were lost within a day, and do they still hold jobs? (Any live runner gives those back.)
select
    r.id, r.app, r.host, r.pid, r.version, r.beat_at as last_beat, now() - r.beat_at as silent_for, r.lost_at,
    (select count(*) from jobrunner.jobs j where j.state = 'running' and j.runner_id = r.id) as still_holds
from jobrunner.runners r
where r.ended = 'lost'
    or (r.ended is null and r.beat_at < now() - r.ttl)
order by r.beat_at desc;
