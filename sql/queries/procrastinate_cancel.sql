-- What waits is cancelled, what runs is asked to stop: the id, or null.
select jobrunner.procrastinate_cancel_v1(%(id)s, %(abort)s, %(delete)s) as id
