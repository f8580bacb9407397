-- Open sagas that need a person, by name and status.
select g.name, g.status, count(*) as sagas, min(g.key) as sample
from jobrunner.v_saga g
where g.finished_at is null
    and g.status in ('stuck', 'needs_attention')
group by g.name, g.status
order by g.name, g.status
