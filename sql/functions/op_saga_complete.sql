-- A person who has mended by hand what a saga was about ends it, without undoing anything: one that runs is completed, one that compensates
-- is compensated. Returns its new status. While a job of its compensation is open this is refused: requeue or discard that first.
-- JR005: there is no such saga; JR004: it is over, or a compensation is open. Writes audit.
create or replace function jobrunner.op_saga_complete(
    _name text, _key text, _actor text default session_user, _reason text default null
)
returns text
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _status text := jobrunner.require_saga(_name, _key);
    _open   bigint;
begin
    if _status not in ('running', 'compensating') then
        raise exception 'jobrunner: saga % of key % is % already', _name, quote_literal(_key), _status using errcode = 'JR004';
    end if;
    select j.id
    into _open
    from jobrunner.jobs j
    where _status = 'compensating'
        and j.key = 'saga ' || _name || ' ' || _key
        and (j.holds_key or j.blocked_on = 'arrival')
    limit 1;
    if found then
        raise exception 'jobrunner: job % still compensates saga % of key %', _open, _name, quote_literal(_key)
            using errcode = 'JR004', hint = 'See: select jobrunner.why(' || _open || ')';
    end if;
    update jobrunner.sagas s
    set status = case s.status when 'running' then 'completed' else 'compensated' end,
        reason = coalesce(_reason, 'completed by ' || _actor),
        timeout_at = null,
        updated_at = clock_timestamp(),
        finished_at = clock_timestamp()
    where s.name = _name
        and s.key = _key
    returning s.status into _status;
    insert into jobrunner.audit (actor, action, target, reason, detail)
    values (_actor, 'complete', 'saga ' || _name, _reason, jsonb_build_object('key', _key, 'status', _status));
    return _status;
end
$$;
