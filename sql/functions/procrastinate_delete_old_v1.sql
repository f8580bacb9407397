-- Deletes up to _n jobs that ended _hours ago with one of these statuses of procrastinate; returns how many: call it until that is 0.
-- (Retention drops whole days and costs nothing; this is for who wants less.)
create or replace function jobrunner.procrastinate_delete_old_v1(_hours double precision, _queue text, _statuses text[], _n integer default 1000)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _before timestamptz := now() - make_interval(hours => 1) * _hours;
begin
    return jobrunner.procrastinate_forget_v1(array(
        select v.id
        from jobrunner.v_procrastinate_job v
        where v.finished_at < _before
            and v.status = any (_statuses)
            and (_queue is null or v.queue_name = _queue)
        limit _n
    ));
end
$$;
