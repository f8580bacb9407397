-- Writes the jobs that a procrastinate app defers: enqueue_many, but a queueing lock that is taken (its unique key, in the scope
-- procrastinate) takes the whole call back, by an error that reads like the unique index of procrastinate's own.
create or replace function jobrunner.procrastinate_defer_v1(_jobs jsonb)
returns bigint[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _ids   bigint[] := jobrunner.enqueue_many(_jobs);
    _taken integer := array_position(_ids, null);
    _lock  text;
begin
    if _taken is not null then
        _lock := _jobs -> (_taken - 1) ->> 'unique_key';
        raise exception 'jobrunner: a job with the queueing lock % is waiting already', _lock
            using errcode = 'unique_violation', constraint = 'procrastinate_jobs_queueing_lock_idx_v1', detail = _lock;
    end if;
    return _ids;
end
$$;
