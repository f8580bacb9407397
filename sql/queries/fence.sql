-- Holds a job still until the handler's transaction ends: did the fence hold?
select jobrunner.fence_v1(%(runner)s, %(id)s, %(attempt)s)
