-- Parked jobs that this runner knows, ready again: how many.
select jobrunner.unpark_v1(%(tasks)s::text[], %(versions)s::smallint[], %(n)s)
