-- The tasks of the first jobs that are ready: for a worker that did not say which tasks it has. No subscription's.
select array(
    select distinct x.task
    from (select j.task from jobrunner.jobs j where j.state = 'ready' limit 1000) x
    where not exists (select from jobrunner.subscriptions s where s.name = x.task)
) as tasks
