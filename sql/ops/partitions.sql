-- Which days of history and of the log are there, how large, and how many lie ahead? (Runners make them; by hand: select jobrunner.make_partitions(now(), 7);)
select
    c.relname as partition,
    pg_size_pretty(pg_total_relation_size(c.oid)) as size,
    c.reltuples::bigint as about_rows,
    right(c.relname, 8) > to_char(now() at time zone 'utc', 'YYYYMMDD') as ahead
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent in ('jobrunner.finished_jobs'::regclass, 'jobrunner.events'::regclass)
order by c.relname desc;
