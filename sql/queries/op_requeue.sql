-- Another life for dead jobs; writes audit.
select jobrunner.op_requeue(%(ids)s::bigint[], %(spread)s::interval, %(actor)s, %(reason)s)
