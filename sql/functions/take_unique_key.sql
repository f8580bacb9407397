-- Takes a unique key for a job that is about to be written and returns the id that it must get; minus the id of the
-- holder when the key is taken. In that case the holder is locked for share, so that it can start only after the
-- caller's commit: a skipped enqueue never misses a later start. May wait for another enqueuer of the same key.
create or replace function jobrunner.take_unique_key(_task text, _unique_key text, _until text)
returns bigint
language plpgsql
as $$
declare
    _id     bigint := nextval('jobrunner.jobs_id_seq');
    _holder bigint;
begin
    loop
        insert into jobrunner.unique_keys (task, unique_key, job_id, until)
        values (_task, _unique_key, _id, _until)
        on conflict (task, unique_key) do nothing;
        if found then
            return _id;
        end if;

        -- The row may be locked by a claim that starts the holder right now: then the lock waits, finds the key given
        -- up, and the loop takes it. A holder that runs (until finish) is not locked: the key is simply taken.
        select u.job_id
        into _holder
        from jobrunner.unique_keys u
        where u.task = _task and u.unique_key = _unique_key;
        if found then
            perform 1 from jobrunner.jobs j where j.id = _holder and j.state <> 'running' for share;
            if exists (
                select
                from jobrunner.unique_keys u
                where u.task = _task
                    and u.unique_key = _unique_key
                    and u.job_id = _holder
                    and (
                        exists (select from jobrunner.jobs j where j.id = _holder)
                        or age(u.xmin) <= age(pg_current_xact_id()::xid)    -- perhaps our own, of a job that is yet to be written
                    )
            ) then
                return -_holder;
            end if;
            -- Given up meanwhile, or left behind by a job that somebody deleted by hand.
            delete from jobrunner.unique_keys u
            where u.task = _task
                and u.unique_key = _unique_key
                and u.job_id = _holder;
        end if;
    end loop;
end
$$;
