-- The version of the schema in this database, and the oldest version whose libraries still work with it.
select v.value::int, coalesce(s.value::int, v.value::int)
from jobrunner.settings v
left join jobrunner.settings s on s.name = 'schema_serves'
where v.name = 'schema_version'
