-- What has failed and is tried again, the next one first? To try one now: select jobrunner.op_retry_now(array[ID]);
-- to give it up: select * from jobrunner.op_cancel(array[ID]);
select
    r.id, r.queue, r.task, r.failures, r.max_attempts, date_trunc('second', r.due_in) as due_in, r.error_type, left(r.error, 120) as error
from jobrunner.v_retrying r
order by r.run_at
limit 50;
