-- The dead delivery that blocks a key lives again, or is given up; writes audit.
select jobrunner.op_resolve_key(%(name)s, %(key)s, %(how)s, %(actor)s, %(reason)s)
