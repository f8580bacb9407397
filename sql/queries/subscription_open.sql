-- How many deliveries of a subscription wait or are dead: what its removal or a rewind would give up. Reads all of jobs once.
select count(*)
from jobrunner.jobs j
where j.task = %(name)s
    and j.state in ('scheduled', 'ready', 'blocked', 'dead')
