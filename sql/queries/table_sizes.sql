-- How large the tables are, partitions added up, and how many rows of them wait for a vacuum. Statistics only: reads no table.
select
    coalesce(p.relname, c.relname) as name,
    sum(coalesce(s.n_dead_tup, 0))::bigint as dead_rows,
    sum(pg_total_relation_size(c.oid))::bigint as bytes
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join pg_inherits i on i.inhrelid = c.oid
left join pg_class p on p.oid = i.inhparent
left join pg_stat_user_tables s on s.relid = c.oid
where n.nspname = 'jobrunner'
    and c.relkind = 'r'
group by 1
order by 1
