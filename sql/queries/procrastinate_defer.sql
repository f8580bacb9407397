-- Jobs that a procrastinate app defers: their ids, in the order of the array.
select unnest(jobrunner.procrastinate_defer_v1(%(jobs)s::jsonb)) as id
