-- No claim takes its deliveries any more; writes audit.
select jobrunner.op_pause_subscription(%(name)s, %(actor)s, %(reason)s)
