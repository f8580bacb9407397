-- A person pauses a queue: no claim takes from it from the next statement on; what runs goes on. True when it was not paused.
create or replace function jobrunner.op_pause(_queue text, _actor text default session_user, _reason text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _changed boolean;
begin
    insert into jobrunner.queues as q (name, paused_at, paused_by)
    values (_queue, now(), _actor)
    on conflict (name) do update
    set paused_at = excluded.paused_at,
        paused_by = excluded.paused_by
    where q.paused_at is null;
    _changed := found;
    insert into jobrunner.audit (actor, action, target, reason) values (_actor, 'pause', 'queue ' || _queue, _reason);
    return _changed;
end
$$;
