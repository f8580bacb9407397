-- Many events in the caller's transaction: their ids in order.
select jobrunner.publish_many(%(events)s, %(notify)s)
