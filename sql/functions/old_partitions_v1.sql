-- Partitions of finished_jobs or events that are past their time, the oldest first: their day, still attached, detach begun and not
-- finished, and whose they are. The name says the day, so that a partition that was detached and not yet dropped is found too.
create or replace function jobrunner.old_partitions_v1(_table text)
returns table (name text, day date, attached boolean, pending boolean, owner oid)
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select
        c.relname::text, d.day, i.inhrelid is not null, coalesce(i.inhdetachpending, false), c.relowner
    from pg_class c
    cross join lateral (select to_date(substring(c.relname from '_p([0-9]{8})$'), 'YYYYMMDD') as day) d
    left join pg_inherits i on i.inhrelid = c.oid
    where c.relnamespace = 'jobrunner'::regnamespace
        and c.relkind = 'r'
        and _table in ('finished_jobs', 'events')
        and c.relname ~ ('^' || _table || '_p[0-9]{8}$')
        and d.day + 1 <= (now() at time zone 'utc' - (
            select (s.value #>> '{}')::interval
            from jobrunner.settings s
            where s.name = case _table when 'events' then 'retention_events' else 'retention_finished' end
        ))::date
    order by c.relname
$$;
