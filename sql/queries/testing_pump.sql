-- Lets a stream subscription read what lies behind its cursor: was a job needed for it?
select jobrunner.pump_v1(%(name)s)
