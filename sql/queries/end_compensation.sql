-- Everything that undoes a saga has run: did it compensate?
select jobrunner.end_compensation_v1(%(name)s, %(key)s)
