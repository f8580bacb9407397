-- A subscription becomes what the code declares: the differences that there were; writes audit.
select jobrunner.apply_subscription(%(name)s, %(app)s, %(spec)s, %(actor)s, %(reason)s)
