-- Which jobs died last, and of what? To give one another life: select jobrunner.op_requeue(array[ID]);
select j.id, j.queue, j.task, j.finished_at as died_at, j.attempt, j.failures, j.crashes, j.reason, left(j.error, 120) as error
from jobrunner.jobs j
where j.state = 'dead'
    and j.finished_at is not null
order by j.finished_at desc
limit 50;
