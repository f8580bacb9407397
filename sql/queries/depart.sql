-- Moves jobs that ended in place out of the way: how many.
select jobrunner.depart_v1(%(ids)s::bigint[], %(runner)s)
