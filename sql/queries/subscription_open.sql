-- How many deliveries of a subscription wait or are dead: what its removal or a rewind would give up. Reads all of jobs once.
select s.scheduled + s.retrying + s.ready + s.blocked + s.dead
from jobrunner.v_subscription s
where s.name = %(name)s
