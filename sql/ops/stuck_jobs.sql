-- Which jobs hang on something that a live runner mends by itself? What stays here for a minute says that none is alive: start one.
-- select jobrunner.why(ID) says more about one. (key_unheld at once: select jobrunner.repair_keys_v1();)
select s.id, s.queue, s.task, s.key, s.reason, date_trunc('second', now() - s.since) as for_how_long, s.host, s.pid
from jobrunner.v_stuck s
order by s.since nulls first
limit 50;
