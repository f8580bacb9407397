-- What became of settlements that were not accepted.
select v.id, v.verdict
from jobrunner.verdict_v1(%(runner)s, %(ids)s::bigint[], %(attempts)s::integer[]) v
