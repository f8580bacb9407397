-- Partitions of a table that are past their time, the oldest first, and whether this session may do with them what their owner may.
select p.name, p.day, p.attached, p.pending, pg_has_role(p.owner, 'usage')
from jobrunner.old_partitions_v1(%(table)s) p
