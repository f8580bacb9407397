-- Workers that no longer beat, declared lost: their ids.
select unnest(jobrunner.procrastinate_prune_v1(%(seconds)s)) as worker_id
