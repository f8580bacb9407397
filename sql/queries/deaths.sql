-- How many jobs died within the last hour, and how many an hour within the day before that.
select
    count(*) filter (where d.died_at > now() - interval '1 hour') as last_hour,
    round(count(*) filter (where d.died_at <= now() - interval '1 hour') / 24.0, 1)::float8 as usual
from jobrunner.v_dead d
where d.died_at > now() - interval '25 hours'
