-- What a runner still has in hand, taken over to its new id: the ids that it got.
select jobrunner.adopt_v1(%(old)s, %(new)s, %(ids)s::bigint[], %(attempts)s::integer[])
