-- Claims take from the queue again; writes audit.
select jobrunner.op_resume(%(queue)s, %(actor)s, %(reason)s)
