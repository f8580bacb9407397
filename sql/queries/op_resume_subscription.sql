-- Claims take its deliveries again; writes audit.
select jobrunner.op_resume_subscription(%(name)s, %(actor)s, %(reason)s)
