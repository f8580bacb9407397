-- Is there a schema of ours in this database, and does it tell its version by a function? Before version 3 it did not.
select to_regclass('jobrunner.settings') is not null, to_regprocedure('jobrunner.schema_version()') is not null
