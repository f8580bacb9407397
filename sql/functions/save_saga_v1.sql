-- Writes what one step made of a saga, in the transaction that locked it (lock_saga_v1): makes the row (_starts) or changes it, pushes
-- _push (an array of enqueue_many's jobs) on its stack, sets, clears or keeps (_new_timeout false) its timeout, and ends it: _status is
-- running, completed, or compensating, which begins the compensation. A timeout is a job of the saga's own task, on the ordered key
-- of its deliveries; its token is the deadline itself, so whatever moves the deadline makes the job a late one that does nothing.
-- _notify false: the transaction will be prepared.
create or replace function jobrunner.save_saga_v1(
    _name        text,
    _key         text,
    _starts      boolean,
    _status      text,
    _state       jsonb,
    _push        jsonb,
    _reason      text,
    _new_timeout boolean,
    _timeout     interval,
    _correlation uuid,
    _notify      boolean
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _due timestamptz := clock_timestamp() + _timeout;
begin
    if not _notify then
        perform set_config('jobrunner.notify', 'off', true);
    end if;

    if _starts then
        insert into jobrunner.sagas (name, key, state, compensation, timeout_at, correlation_id)
        values (_name, _key, _state, _push, _due, _correlation);
    else
        update jobrunner.sagas s
        set version = s.version + 1,
            state = _state,
            compensation = s.compensation || _push,
            timeout_at = case when _new_timeout then _due else s.timeout_at end,
            updated_at = clock_timestamp()
        where s.name = _name
            and s.key = _key
            and s.status = 'running';
        if not found then
            raise exception 'jobrunner: saga % of key % is not running', _name, quote_literal(_key) using errcode = 'JR004';
        end if;
    end if;

    case _status
    when 'compensating' then
        perform jobrunner.compensate_saga_v1(_name, _key, _reason);
    when 'completed' then
        update jobrunner.sagas s
        set status = 'completed',
            reason = _reason,
            timeout_at = null,
            finished_at = clock_timestamp()
        where s.name = _name
            and s.key = _key;
    when 'running' then
        if _due is not null then
            perform jobrunner.enqueue(
                _name,
                jsonb_build_object('timeout', _due),
                run_at => _due,
                key => _name || ' ' || _key,
                version => 1::smallint,
                headers => jsonb_build_object('correlation_id', _correlation),
                correlation_id => _correlation
            );
        end if;
    end case;
end
$$;
