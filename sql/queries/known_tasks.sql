-- The names of the tasks that a runner ever registered.
select jobrunner.known_tasks()
