-- Many jobs in the caller's transaction: their ids in order, null where a unique key was taken.
select jobrunner.enqueue_many(%(jobs)s, %(notify)s)
