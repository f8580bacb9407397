-- The schemas that have procrastinate's table of jobs.
select n.nspname
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relname = 'procrastinate_jobs'
    and c.relkind in ('r', 'p')
    and (%(schema)s::text is null or n.nspname = %(schema)s)
order by n.nspname
