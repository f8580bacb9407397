-- Jobs that run and that somebody asked to stop.
select unnest(jobrunner.procrastinate_to_abort_v1(%(queue)s)) as id
