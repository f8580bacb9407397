-- Who has, or waits for, the whole of a table, so that nobody else can even read it: the longest first. Reads the catalogue alone.
select
    l.pid,
    min(a.usename)::text as role,
    min(nullif(a.application_name, '')) as application,
    min(c.relname)::text as table_name,
    min(now() - a.xact_start) as age
from pg_locks l
join pg_class c on c.oid = l.relation
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'relation'
    and l.mode = 'AccessExclusiveLock'
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.pid <> pg_backend_pid()
    and c.relnamespace = 'jobrunner'::regnamespace
group by l.pid
order by age desc nulls last, l.pid
