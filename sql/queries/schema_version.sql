-- The version of the schema in this database.
select s.value::int
from jobrunner.settings s
where s.name = 'schema_version'
