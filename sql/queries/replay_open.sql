-- How many deliveries of a walk wait or run. Reads all of jobs once.
select jobrunner.replay_open(%(subscription)s, %(id)s)
