-- What nobody needs any more: tombstones of runners, keys and requests of jobs that are over, old audits, tasks that nobody has.
select jobrunner.drop_leftovers_v1()
