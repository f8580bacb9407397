-- Is there a schema of ours in this database?
select to_regclass('jobrunner.settings') is not null
