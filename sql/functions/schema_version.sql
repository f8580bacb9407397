-- The version of the schema in this database, and the oldest version whose libraries still work with it: for those who may not read
-- the settings.
create or replace function jobrunner.schema_version(out version integer, out serves integer)
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select v.value::int, coalesce(s.value::int, v.value::int)
    from jobrunner.settings v
    left join jobrunner.settings s on s.name = 'schema_serves'
    where v.name = 'schema_version'
$$;
