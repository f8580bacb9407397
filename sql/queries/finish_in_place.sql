-- Ends a job inside the handler's transaction: did the fence hold?
select jobrunner.finish_in_place_v1(%(runner)s, %(id)s, %(attempt)s)
