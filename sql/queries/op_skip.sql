-- A subscription passes over one event; writes audit.
select jobrunner.op_skip(%(name)s, %(position)s, %(actor)s, %(reason)s)
