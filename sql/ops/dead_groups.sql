-- Which one fault caused most of the dead jobs? Numbers, ids and quoted parts in the errors are read as one. To give all of one group
-- another life: select jobrunner.op_requeue(array(select d.id from jobrunner.v_dead d where d.fingerprint = 'FINGERPRINT'), '10 minutes');
select g.n, g.task, g.error_type, left(g.error, 120) as error, g.first_at, g.last_at, g.sample_id, g.fingerprint
from jobrunner.v_dead_group g
order by g.n desc, g.last_at desc
limit 30;
