-- Makes a runner and its tasks known.
select jobrunner.register_v1(
    %(runner)s, %(ttl)s, %(slots)s, %(app)s, %(host)s, %(pid)s, %(version)s, %(queues)s::text[], %(tasks)s
)
