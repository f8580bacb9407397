-- Deletes jobs that are over, with what hangs on them; returns how many. One that has a turn to pass on yet is left.
create or replace function jobrunner.procrastinate_forget_v1(_ids bigint[])
returns integer
language plpgsql
set enable_seqscan = off
set jit = off
as $$
declare
    _gone bigint[];
begin
    with dead as (
        delete from jobrunner.jobs j
        where j.id = any (_ids)
            and j.state = 'dead'
            and not j.holds_key
        returning j.id
    ),
    over as (
        delete from jobrunner.finished_jobs f
        where f.id = any (_ids)
        returning f.id
    )
    select coalesce(array_agg(g.id), '{}')
    into _gone
    from (select d.id from dead d union all select o.id from over o) g;

    delete from jobrunner.attempts a where a.job_id = any (_gone);
    delete from jobrunner.job_links l where l.job_id = any (_gone);
    delete from jobrunner.job_progress p where p.job_id = any (_gone);
    delete from jobrunner.job_results r where r.job_id = any (_gone);
    delete from jobrunner.cancel_requests c where c.job_id = any (_gone);
    return cardinality(_gone);
end
$$;
