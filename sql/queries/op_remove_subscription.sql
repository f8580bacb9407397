-- The subscription and its open deliveries go; writes audit.
select jobrunner.op_remove_subscription(%(name)s, %(actor)s, %(reason)s)
