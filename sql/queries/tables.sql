-- The tables with their dead rows and days, and for how long days are kept. Cheap: the catalogue and the sizes of files.
select
    h.table_name, h.live, h.dead, h.dead_pct, h.last_autovacuum, h.bytes, h.oldest_partition, h.partitions_ahead,
    jobrunner.retention(h.table_name) as kept
from jobrunner.v_table_health h
order by h.table_name
