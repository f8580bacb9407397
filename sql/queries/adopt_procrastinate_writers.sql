-- The transactions that may write procrastinate's table: one of them may be a fetch that does not see yet which locks are closed.
select coalesce(array_agg(distinct l.virtualtransaction), '{}')
from pg_locks l
where l.locktype = 'relation'
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.relation = to_regclass('procrastinate_jobs')
    and l.mode = 'RowExclusiveLock'
    and l.granted
    and l.pid <> pg_backend_pid()
