-- Is there a schema of ours in this database? Null where there is none.
select to_regclass('jobrunner.jobs')::text as "check"
