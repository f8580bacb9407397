-- Who holds an old snapshot? While it is held, dead rows stay and every table of this database grows.
-- To end one: select pg_terminate_backend(PID); for a prepared transaction: rollback prepared 'NAME'.
select b.kind, b.name, b.age, b.xmin_age, b.application, b.doing
from (
    select
        case when a.state like 'idle in transaction%' then 'idle in transaction' else 'transaction' end as kind,
        a.pid::text as name,
        now() - a.xact_start as age,
        age(a.backend_xmin) as xmin_age,
        a.application_name as application,
        left(a.query, 80) as doing
    from pg_stat_activity a
    where a.backend_xmin is not null
        and a.pid <> pg_backend_pid()
        and a.backend_type = 'client backend'
    union all
    select 'prepared', p.gid, now() - p.prepared, age(p.transaction), p.owner::text, null
    from pg_prepared_xacts p
    union all
    select 'replication slot', s.slot_name::text, null, age(s.xmin), s.plugin::text, null
    from pg_replication_slots s
    where s.xmin is not null
) b
order by b.xmin_age desc nulls last
limit 20;
