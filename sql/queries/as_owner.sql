-- As whom a migration must act: a row when this session is to be jobrunner_owner, who owns the schema, or is meant to own the one that
-- is to be made (sql/roles.sql let it create in this database). None in a database without roles.
select 'set local role jobrunner_owner'
from pg_roles r
left join pg_namespace n on n.nspname = 'jobrunner'
where r.rolname = 'jobrunner_owner'
    and pg_has_role(r.oid, 'member')
    and case
        when n.oid is not null then n.nspowner = r.oid
        else exists (
            select
            from pg_database d
            cross join aclexplode(d.datacl) a
            where d.datname = current_database()
                and a.grantee = r.oid
                and a.privilege_type = 'CREATE'
        )
    end
