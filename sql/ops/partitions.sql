-- Which days of history are there, how large, and how many lie ahead? (Runners make them; by hand: select jobrunner.make_partitions(now(), 7);)
select
    c.relname as partition,
    pg_size_pretty(pg_total_relation_size(c.oid)) as size,
    c.reltuples::bigint as about_rows,
    c.relname > 'finished_jobs_p' || to_char(now() at time zone 'utc', 'YYYYMMDD') as ahead
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'jobrunner.finished_jobs'::regclass
order by c.relname desc;
