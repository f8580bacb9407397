-- What hangs on the jobs of a detached partition.
with gone as materialized (
    select p.id from {partition} p
),
links as (
    delete from jobrunner.job_links l using gone g where l.job_id = g.id
),
progress as (
    delete from jobrunner.job_progress l using gone g where l.job_id = g.id
),
results as (
    delete from jobrunner.job_results l using gone g where l.job_id = g.id
),
requests as (
    delete from jobrunner.cancel_requests l using gone g where l.job_id = g.id
)
delete from jobrunner.attempts l using gone g where l.job_id = g.id
