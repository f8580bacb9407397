-- What one job was given and what it returned: the one statement about a job that views do not answer.
select p.args, p.headers, (select r.result from jobrunner.job_results r where r.job_id = p.id) as result
from (
    select j.id, j.args, j.headers
    from jobrunner.jobs j
    where j.id = %(id)s
    union all
    select f.id, f.args, f.headers
    from jobrunner.finished_jobs f
    where f.id = %(id)s
) p
limit 1
