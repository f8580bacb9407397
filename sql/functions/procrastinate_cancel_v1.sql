-- Cancels a job that waits (and deletes it, where that is asked); one that runs is asked to stop where _abort says so, and its
-- worker hears it at once. Returns the id, null where there was nothing to do. Waits for who holds the row, as procrastinate does:
-- so that a job cannot start between the look at its state and the request.
create or replace function jobrunner.procrastinate_cancel_v1(_id bigint, _abort boolean, _delete boolean)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _runs   boolean;
    _result text;
begin
    select j.state = 'running'
    into _runs
    from jobrunner.jobs j
    where j.id = _id
        and j.state in ('scheduled', 'ready', 'blocked', 'running')
    for update;
    if not found or (_runs and not _abort) then
        return null;
    end if;

    perform jobrunner.op_cancel(array[_id], _reason => 'cancelled by procrastinate');
    if _runs then
        perform pg_notify('jobrunner', 'abort ' || _id);
        return _id;
    end if;
    perform jobrunner.depart_v1(array[_id]);                -- where it held its key; what is held is left to the sweep
    if _delete then
        perform jobrunner.procrastinate_forget_v1(array[_id]);
    end if;
    return _id;
end
$$;
