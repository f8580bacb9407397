-- Drops dead jobs that nobody wanted back in all their time, at most _n, with what hangs on them; returns how many. One that holds its
-- key is left: dropping it would be a decision about the jobs behind it.
create or replace function jobrunner.drop_dead_v1(_n integer)
returns integer
language sql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    with gone as (
        delete from jobrunner.jobs j
        where j.id = any (array(
            select x.id
            from jobrunner.jobs x
            where x.state = 'dead'
                and x.finished_at < now() - (select (s.value #>> '{}')::interval from jobrunner.settings s where s.name = 'retention_dead')
                and not x.holds_key
            order by x.finished_at
            limit _n
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
    select count(*)::integer from gone
$$;
