-- Dead jobs are given up; writes audit.
select jobrunner.op_discard(%(ids)s::bigint[], %(actor)s, %(reason)s)
