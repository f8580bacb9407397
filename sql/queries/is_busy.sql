-- Is there work for these tasks that is due?
select jobrunner.is_busy_v1(%(tasks)s::text[])
