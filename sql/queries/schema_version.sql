-- The version of the schema in this database, and the oldest version whose libraries still work with it.
select v.version, v.serves
from jobrunner.schema_version() v
