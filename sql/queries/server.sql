-- What jobrunner needs of its server, its database and the role that it is asked with.
select
    current_setting('server_version_num')::int / 10000 as major,
    current_setting('server_encoding') as encoding,
    current_setting('autovacuum')::boolean as autovacuum,
    current_setting('track_counts')::boolean as track_counts,
    pg_is_in_recovery() as is_standby,
    round(pg_notification_queue_usage()::numeric, 3)::float8 as notifications,
    (                                              -- who may not see others' sessions sees that they are there, not what they are
        select count(*)
        from pg_stat_activity a
        where a.usesysid is not null
            and coalesce(a.backend_type, 'client backend') = 'client backend'
    ) as sessions,
    current_setting('max_connections')::int as max_connections,
    session_user::text as role,
    (pg_has_role('pg_read_all_stats', 'usage') or pg_has_role('pg_monitor', 'usage')) as sees_all_sessions,
    array(
        select c.relname::text collate "C"
        from pg_class c
        where c.relnamespace = 'jobrunner'::regnamespace
            and exists (
                select
                from pg_options_to_table(c.reloptions) o
                where o.option_name = 'autovacuum_enabled'
                    and not o.option_value::boolean
            )
        order by 1
    ) as never_vacuumed,
    array(
        select distinct pg_get_userbyid(c.relowner)::text collate "C"
        from pg_class c
        where c.relnamespace = 'jobrunner'::regnamespace
            and c.relkind in ('r', 'p', 'v', 'S')
        order by 1
    ) as owners,
    case when exists (select from pg_roles r where r.rolname = 'jobrunner_owner') then (
        select count(*)
        from pg_proc p
        cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace = 'jobrunner'::regnamespace
            and a.grantee = 0
            and a.privilege_type = 'EXECUTE'
    ) else 0 end as open_to_all,
    array(
        select f.name
        from unnest(%(functions)s::text[]) f (name)
        where not exists (select from pg_proc p where p.pronamespace = 'jobrunner'::regnamespace and p.proname = f.name)
        order by 1
    ) as missing_functions
