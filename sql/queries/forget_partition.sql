-- What hangs on the jobs of a detached partition, a page of them in the order of their ids: the last id, null after the last page.
with gone as materialized (
    select p.id
    from {partition} p
    where p.id > %(after)s
    order by p.id
    limit %(n)s
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
),
attempts as (
    delete from jobrunner.attempts l using gone g where l.job_id = g.id
)
select max(g.id) from gone g
