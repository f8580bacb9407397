-- Up to n jobs for a runner.
select c.*
from jobrunner.claim_v1(%(runner)s, %(n)s, %(queues)s::text[], %(priorities)s::smallint[], %(floors)s::bigint[], %(tasks)s::text[], %(versions)s::smallint[], %(plain)s) c
