-- Everything that undoes a saga has run: true, or false when it does not compensate.
create or replace function jobrunner.end_compensation_v1(_name text, _key text)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    update jobrunner.sagas s
    set status = 'compensated',
        updated_at = clock_timestamp(),
        finished_at = clock_timestamp()
    where s.name = _name
        and s.key = _key
        and s.status = 'compensating';
    return found;
end
$$;
