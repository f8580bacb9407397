-- The job of one tick of a periodic task; null when it was made before.
select jobrunner.procrastinate_defer_periodic_v1(%(periodic_id)s, to_timestamp(%(tick)s), %(job)s::jsonb) as id
