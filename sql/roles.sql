-- The roles of jobrunner, for one database. Run it as a superuser, or as a role with CREATEROLE that may give away what is there:
--
--     jobrunner sql roles | psql DATABASE
--
-- once, before or after the first `jobrunner migrate`; again does no harm. It makes six roles that nobody can log in as, gives
-- everything of jobrunner to jobrunner_owner, takes every right from PUBLIC, and grants what each role needs. From then on
-- `jobrunner migrate` keeps owner and grants right. Logins are yours: create role mail login; grant jobrunner_runner to mail.
--
--     jobrunner_owner ..... owns schema, tables, functions
--     jobrunner_migrator .. is a member of the owner: for `jobrunner migrate`
--     jobrunner_enqueue ... may enqueue and publish, and nothing else
--     jobrunner_runner .... may run jobs (and so enqueue and publish), by functions only: no table, no DDL
--     jobrunner_reader .... may read the views (no arguments, payloads, headers), why and trace
--     jobrunner_operator .. may read, and change by the op_* functions, each of which writes audit

begin;
set local search_path = pg_catalog, pg_temp;
set local lock_timeout = '5s';
set local client_min_messages = warning;
select pg_advisory_xact_lock(727002);

do $$
declare
    _name text;
begin
    foreach _name in array array['owner', 'migrator', 'enqueue', 'runner', 'reader', 'operator'] loop
        if to_regrole('jobrunner_' || _name) is null then
            execute format('create role %I nologin', 'jobrunner_' || _name);
        end if;
    end loop;
    if not pg_has_role('jobrunner_migrator', 'jobrunner_owner', 'member') then
        grant jobrunner_owner to jobrunner_migrator;
    end if;
    if not pg_has_role('jobrunner_runner', 'jobrunner_enqueue', 'member') then
        grant jobrunner_enqueue to jobrunner_runner;
    end if;
    if not pg_has_role('jobrunner_operator', 'jobrunner_reader', 'member') then
        grant jobrunner_reader to jobrunner_operator;
    end if;
    -- This is also how `jobrunner migrate` knows that an empty database is meant to have the roles.
    execute format('grant create on database %I to jobrunner_owner', current_database());
end
$$;

-- Whatever somebody else made before there were roles, and PUBLIC may do.
do $$
declare
    _schema constant regnamespace := to_regnamespace('jobrunner');
    _owner  constant regrole := 'jobrunner_owner'::regrole;
    _thing  record;
begin
    if _schema is null then
        raise warning 'there is no jobrunner schema yet: run `jobrunner migrate` as a member of jobrunner_migrator';
        return;
    end if;
    if not (select r.rolsuper from pg_roles r where r.rolname = current_user)
        and exists (select from pg_namespace n where n.oid = _schema and n.nspowner <> _owner)
    then
        execute format('grant jobrunner_owner to %I', current_user);           -- only a member may give something to it
    end if;
    for _thing in
        select 1 as place, format('schema %s', n.oid::regnamespace) as name
        from pg_namespace n
        where n.oid = _schema
            and n.nspowner <> _owner
        union all
        select
            2,
            format('%s %s', case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, c.oid::regclass)
        from pg_class c
        where c.relnamespace = _schema
            and c.relkind in ('r', 'p', 'v', 'S')
            and c.relowner <> _owner
            and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i' and c.relkind = 'S')     -- goes with its table
        union all
        select 3, format('function %s', p.oid::regprocedure)
        from pg_proc p
        where p.pronamespace = _schema
            and p.proowner <> _owner
        order by 1, 2
    loop
        execute format('alter %s owner to jobrunner_owner', _thing.name);
    end loop;
    revoke all on schema jobrunner from public;
    revoke all on all tables in schema jobrunner from public;
    revoke all on all sequences in schema jobrunner from public;
end
$$;
