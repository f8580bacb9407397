-- Every other end of an attempt: the ids that are settled now.
select jobrunner.settle_v1(%(runner)s, %(rows)s)
