-- Successes without a key: the ids that are settled now.
select jobrunner.finish_v1(%(runner)s, %(ids)s::bigint[], %(attempts)s::integer[], %(results)s::jsonb[])
