-- The names of the subscriptions that want events of a type.
create or replace function jobrunner.listeners(_type text)
returns setof text
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select s.name
    from jobrunner.subscriptions s
    where '.' || _type ~ s.pattern
    order by s.name
$$;
