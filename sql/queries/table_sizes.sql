-- How large the tables are, partitions added up, and how many rows of them wait for a vacuum. Reads statistics only.
select t.table_name as name, coalesce(t.dead, 0) as dead_rows, coalesce(t.bytes, 0) as bytes
from jobrunner.v_table_health t
order by t.table_name
