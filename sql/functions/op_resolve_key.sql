-- A person frees a key of an ordered subscription that a dead delivery blocks: retry gives it another life, still first in its line;
-- discard gives it up, and the next one has its turn. Returns the id of the delivery; JR005 when nothing blocks the key.
create or replace function jobrunner.op_resolve_key(
    _subscription text, _key text, _how text, _actor text default session_user, _reason text default null
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _id   bigint;
    _done bigint[];
begin
    perform jobrunner.require_read_committed();
    if _how is null or _how not in ('retry', 'discard') then
        raise exception 'jobrunner: a blocked key is resolved by retry or by discard, not by %', coalesce(quote_literal(_how), 'null')
            using errcode = 'JR003';
    end if;
    select j.id
    into _id
    from jobrunner.jobs j
    where j.key = _subscription || ' ' || _key
        and j.holds_key
        and j.state = 'dead';
    if not found then
        raise exception 'jobrunner: no dead delivery blocks key % of subscription %', quote_literal(_key), _subscription using errcode = 'JR005';
    end if;
    if _how = 'retry' then
        _done := jobrunner.op_requeue(array[_id], '0', _actor, _reason);
    else
        _done := jobrunner.op_discard(array[_id], _actor, _reason);
    end if;
    if _done = '{}' then
        raise exception 'jobrunner: somebody holds job % just now; again, please', _id using errcode = '55P03';
    end if;
    insert into jobrunner.audit (actor, action, target, jobs, reason, detail)
    values (
        _actor, 'resolve key', 'subscription ' || _subscription, 1, _reason, jsonb_build_object('key', _key, 'how', _how, 'job', _id::text)
    );
    return _id;
end
$$;
