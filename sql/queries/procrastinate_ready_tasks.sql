-- The tasks of the first jobs that are ready.
select jobrunner.procrastinate_ready_tasks_v1() as tasks
