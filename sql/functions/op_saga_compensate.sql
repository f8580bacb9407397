-- A person gives a running saga up: it is compensated as if its own step had said so. Returns how many jobs undo it. A dead delivery that
-- blocks its key goes on doing so (op_resolve_key). JR005: there is no such saga; JR004: it does not run any more. Writes audit.
create or replace function jobrunner.op_saga_compensate(
    _name text, _key text, _actor text default session_user, _reason text default null
)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _status text := jobrunner.require_saga(_name, _key);
    _jobs   integer;
begin
    _jobs := jobrunner.compensate_saga_v1(_name, _key, coalesce(_reason, 'compensated by ' || _actor));
    if _jobs is null then
        raise exception 'jobrunner: saga % of key % is % and cannot be compensated', _name, quote_literal(_key), _status using errcode = 'JR004';
    end if;
    insert into jobrunner.audit (actor, action, target, jobs, reason, detail)
    values (_actor, 'compensate', 'saga ' || _name, _jobs, _reason, jsonb_build_object('key', _key));
    return _jobs;
end
$$;
