-- Which runners fell silent or were lost within a day, and do they still hold jobs? (Any live runner gives those back.)
select
    r.runner, r.app, r.host, r.pid, r.version, r.state, date_trunc('second', r.beat_age) as silent_for,
    (select count(*) from jobrunner.v_running j where j.runner = r.runner) as still_holds
from jobrunner.v_runner r
where r.state in ('silent', 'lost')
order by r.beat_age;
