-- What finished within %(minutes)s minutes, what died within an hour, and what may hold the system up:
-- days of history partitions still ahead, and the age of the oldest open transaction that this role may see.
select
    f.succeeded,
    f.cancelled,
    (
        select count(*)
        from jobrunner.v_dead d
        where d.died_at > now() - interval '1 hour'
    ) as died,
    (
        select count(*)
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'jobrunner.finished_jobs'::regclass
            and c.relname > 'finished_jobs_p' || to_char(now() at time zone 'utc', 'YYYYMMDD')
    ) as partitions_ahead,
    (
        select max(now() - a.xact_start)
        from pg_stat_activity a
        where a.datname = current_database()
            and a.pid <> pg_backend_pid()
            and (a.backend_xmin is not null or a.backend_xid is not null)
            and a.backend_type = 'client backend'
    ) as oldest_transaction
from (
    select
        count(*) filter (where x.state = 'succeeded') as succeeded,
        count(*) filter (where x.state = 'cancelled') as cancelled
    from jobrunner.v_job x
    where x.state in ('succeeded', 'cancelled')
        and x.finished_at > now() - make_interval(mins => %(minutes)s)
) f
