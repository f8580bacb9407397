-- Which jobs died last, and of what? To give one another life: select jobrunner.op_requeue(array[ID]);
select d.id, d.queue, d.task, d.died_at, d.attempt, d.failures, d.crashes, d.reason, left(d.error, 120) as error, d.fingerprint
from jobrunner.v_dead d
order by d.died_at desc
limit 50;
