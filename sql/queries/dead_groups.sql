-- The dead jobs by the fault that they died of, the largest group first. Reads all that is dead.
select
    min(d.fingerprint) as fingerprint, d.task, d.error_type, d.error_pattern as error, count(*) as n, min(d.died_at) as first_at,
    max(d.died_at) as last_at,
    (array_agg(d.id order by d.died_at desc, d.id desc))[1] as sample_id
from jobrunner.v_dead d
where (%(queue)s::text is null or d.queue = %(queue)s::text)
    and (%(task)s::text is null or d.task = %(task)s::text)
group by d.task, d.error_type, d.error_pattern
order by n desc, last_at desc
limit %(limit)s
