-- What procrastinate's schema is made of: the columns of each of its tables, and as `functions` those that tell its version.
select c.relname::text, array_agg(a.attname::text)
from pg_class c
join pg_attribute a on a.attrelid = c.oid
where c.oid in (
        to_regclass('procrastinate_jobs'), to_regclass('procrastinate_periodic_defers'), to_regclass('procrastinate_workers'),
        to_regclass('procrastinate_events')
    )
    and a.attnum > 0
    and not a.attisdropped
group by c.relname
union all
select 'functions', array_agg(p.proname::text)
from pg_proc p
where p.pronamespace = (select c.relnamespace from pg_class c where c.oid = to_regclass('procrastinate_jobs'))
    and p.proname in ('procrastinate_fetch_job_v2', 'procrastinate_retry_job_v2')
having count(*) > 0
