-- A running saga is given up and undone: by how many jobs; writes audit.
select jobrunner.op_saga_compensate(%(name)s, %(key)s, %(actor)s, %(reason)s)
