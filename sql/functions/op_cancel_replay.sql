-- A person stops a walk over the log, and cancels what it has delivered and nobody has begun. Returns how many deliveries that was; null
-- when it was over. What must meet the present (catch_up, rewind) cannot be stopped half-way: JR004.
create or replace function jobrunner.op_cancel_replay(_id bigint, _actor text default session_user, _reason text default null)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _r    jobrunner.replays;
    _gone integer := 0;
begin
    perform jobrunner.require_read_committed();
    select r.* into _r from jobrunner.replays r where r.id = _id for update;
    if not found then
        raise exception 'jobrunner: there is no replay %', _id using errcode = 'JR005';
    elsif _r.state <> 'running' then
        insert into jobrunner.audit (actor, action, target, reason)
        values (_actor, 'cancel replay', format('replay %s of %s', _id, _r.subscription), _reason);
        return null;
    elsif _r.kind in ('catch_up', 'rewind') then
        raise exception 'jobrunner: replay % brings % up to the present and cannot stop half-way; pause the subscription, or rewind it to where it should go on', _id,
            _r.subscription using errcode = 'JR004';
    end if;
    update jobrunner.replays r
    set state = 'cancelled',
        finished_at = clock_timestamp()
    where r.id = _id;
    if _r.kind = 'replay' then
        _gone := jobrunner.drop_deliveries(_r.subscription, _id, _actor, coalesce(_reason, 'replay cancelled'));
    end if;
    insert into jobrunner.audit (actor, action, target, jobs, reason)
    values (_actor, 'cancel replay', format('replay %s of %s', _id, _r.subscription), _gone, _reason);
    return _gone;
end
$$;
