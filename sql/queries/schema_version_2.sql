-- The version of a schema that has no schema_version() yet, twice: it serves no other.
select v.value::int, v.value::int
from jobrunner.settings v
where v.name = 'schema_version'
