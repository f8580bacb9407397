-- A saga that was mended by hand is over: its new status; writes audit.
select jobrunner.op_saga_complete(%(name)s, %(key)s, %(actor)s, %(reason)s)
