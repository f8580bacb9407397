-- Partitions of a table that are past their time: name, still attached, detach begun and not finished. The name says the day, so
-- that a partition that was detached and not yet dropped is found too. The oldest first.
select c.relname, i.inhrelid is not null as attached, coalesce(i.inhdetachpending, false) as pending
from pg_class c
join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'jobrunner'
left join pg_inherits i on i.inhrelid = c.oid
where c.relkind = 'r'
    and c.relname ~ ('^' || %(table)s || '_p[0-9]{8}$')
    and to_date(right(c.relname, 8), 'YYYYMMDD') + 1
        <= (now() at time zone 'utc' - (select (s.value #>> '{}')::interval from jobrunner.settings s where s.name = %(setting)s))::date
order by c.relname
