-- Dead jobs that nobody wanted back in all their time, at most n, with what hangs on them: how many. One that holds its key
-- is left: dropping it would be a decision about the jobs behind it.
with gone as (
    delete from jobrunner.jobs j
    where j.id = any (array(
        select x.id
        from jobrunner.jobs x
        where x.state = 'dead'
            and x.finished_at < now() - (select (s.value #>> '{}')::interval from jobrunner.settings s where s.name = 'retention_dead')
            and not x.holds_key
        order by x.finished_at
        limit %(n)s
        for update skip locked
    ))
    returning j.id
),
links as (
    delete from jobrunner.job_links l using gone g where l.job_id = g.id
),
progress as (
    delete from jobrunner.job_progress l using gone g where l.job_id = g.id
),
attempts as (
    delete from jobrunner.attempts l using gone g where l.job_id = g.id
)
select count(*) from gone
