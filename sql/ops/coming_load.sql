-- What load is coming within a day, and when? To move a job: select jobrunner.op_reschedule(array[ID], 'TIME');
select s.bucket_start, s.queue, s.task, s.n, s.retrying
from jobrunner.v_scheduled s
order by s.bucket_start, s.n desc, s.queue, s.task
limit 100;
