-- Deletes what hangs on the jobs of an old day of the history that is detached, a page of _n of them in the order of their ids, behind
-- the id _after; returns the last id, null after the last page.
create or replace function jobrunner.forget_day_v1(_day date, _after bigint, _n integer)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _p    record;
    _gone bigint[];
begin
    select * into _p from jobrunner.old_partition('finished_jobs', _day);
    if _p.attached then
        raise exception 'jobrunner: the day % is still attached to the history', _day using errcode = 'JR004';
    end if;
    execute format('select array(select p.id from jobrunner.%I p where p.id > $1 order by p.id limit $2)', _p.name)
    into _gone
    using _after, _n;
    delete from jobrunner.job_links l where l.job_id = any (_gone);
    delete from jobrunner.job_progress l where l.job_id = any (_gone);
    delete from jobrunner.job_results l where l.job_id = any (_gone);
    delete from jobrunner.cancel_requests l where l.job_id = any (_gone);
    delete from jobrunner.attempts l where l.job_id = any (_gone);
    return _gone[cardinality(_gone)];
end
$$;
