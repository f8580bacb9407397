-- No claim takes from the queue any more; writes audit.
select jobrunner.op_pause(%(queue)s, %(actor)s, %(reason)s)
