-- The status of a saga, its row held until the end of the transaction; JR005 when there is none of this name and key.
create or replace function jobrunner.require_saga(_name text, _key text)
returns text
language plpgsql
as $$
declare
    _status text;
begin
    select s.status
    into _status
    from jobrunner.sagas s
    where s.name = _name
        and s.key = _key
    for update;
    if not found then
        raise exception 'jobrunner: there is no saga % of key %', _name, quote_literal(_key) using errcode = 'JR005';
    end if;
    return _status;
end
$$;
