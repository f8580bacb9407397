-- Makes a runner and its tasks known.
select jobrunner.register_v2(
    %(runner)s, %(ttl)s, %(slots)s, %(app)s, %(host)s, %(pid)s, %(version)s, %(queues)s::text[], %(tasks)s, %(about)s
)
