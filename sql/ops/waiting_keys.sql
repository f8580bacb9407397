-- Which keys have jobs in line, how many, and behind which job? A dead holder: select jobrunner.op_requeue(array[HOLDER]), or op_discard;
-- one that runs for too long: select * from jobrunner.op_cancel(array[HOLDER]).
select
    k.key, k.waiting, date_trunc('second', k.oldest_age) as oldest, k.holder, k.holder_task, k.holder_state,
    date_trunc('second', k.holder_age) as holder_for
from jobrunner.v_key_waiting k
order by k.waiting desc, k.key
limit 30;
