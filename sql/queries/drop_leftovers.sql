-- Tombstones of runners after a day, when nothing runs under their ids any more.
delete from jobrunner.runners r
where r.lost_at < now() - interval '1 day'
    and not exists (select from jobrunner.jobs j where j.runner_id = r.id and j.state = 'running')
