-- Jobs that ended in place and have not been moved out of the way.
select jobrunner.undeparted_v1(%(ids)s::bigint[])
