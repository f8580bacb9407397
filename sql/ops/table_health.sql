-- Which tables are bloated, and is there room for tomorrow? Many dead rows and no autovacuum: somebody holds an old snapshot (blockers).
-- partitions_ahead under 2: select jobrunner.make_partitions(now(), 7);
select h.table_name, h.live, h.dead, h.dead_pct, h.last_autovacuum, h.size, h.oldest_partition, h.partitions_ahead
from jobrunner.v_table_health h
order by h.bytes desc;
