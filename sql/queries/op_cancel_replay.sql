-- A walk stops, and what it delivered and nobody began is cancelled; writes audit.
select jobrunner.op_cancel_replay(%(id)s, %(actor)s, %(reason)s)
