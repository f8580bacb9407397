"""Who may do what: the catalogue, every denial tried, and a hostile search path. The policy is written down here a second time.

(long because: the rules of SECURITY DEFINER, the matrix, hostility, and who owns what after a migration are one subject)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import InsufficientPrivilege

import jobrunner.worker
from jobrunner.store.migrate import Migrated, migrate, roles
from jobrunner.store.queries import names, text
from tests.conftest import Connect, Login
from tests.store.calls import Connection, column, value

pytestmark = pytest.mark.pg16


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENQUEUE = frozenset({"enqueue", "enqueue_many", "procrastinate_defer_v1", "publish", "publish_many"})
RUNNER = ENQUEUE | _words(
    """
    adopt_v1 advance_stream_v1 beat_v1 claim_v1 crashed_v1 depart_v1 detach_day_v1 drop_day_v1 drop_dead_v1 drop_event_leftovers_v1
    drop_leftovers_v1 end_compensation_v1 entity_events_v1 fence_v1 finish_in_place_v1 finish_v1 forget_day_v1 free_day_v1
    is_busy_v1 load_deliveries_v1 lock_saga_v1 make_partitions old_partitions_v1 outbox_waits_v1 park_v1 position_at
    procrastinate_cancel_v1 procrastinate_counts_v1 procrastinate_defer_periodic_v1 procrastinate_delete_old_v1
    procrastinate_finish_v1 procrastinate_jobs_v1 procrastinate_prune_v1
    procrastinate_ready_tasks_v1 procrastinate_retry_v1 procrastinate_stalled_v1
    procrastinate_to_abort_v1
    register_v1 register_v2 repair_keys_v1 replay_step_v1 rescue_v1 save_saga_v1 schema_version sequence_v1 settle_v1 stop_v1
    stream_batch_v1 subscribe_v1 sweep_v1 take_message_v1 tick_v1 undeparted_v1 unpark_v1 verdict_v1 write_progress_v1
    """
)
READER = _words(
    "known_tasks listeners position_at replay_open retention schema_version subscription_diff topic_pattern trace why"
)
OPERATOR = READER | _words(
    """
    apply_subscription make_partitions op_cancel op_cancel_replay op_discard op_pause op_pause_subscription
    op_remove_subscription op_replay op_requeue op_reschedule op_resolve_key op_resume op_resume_subscription op_retry_now
    op_saga_compensate op_saga_complete op_skip repair_keys_v1 subscribe_v1
    """
)
POLICY = {
    "jobrunner_enqueue": ENQUEUE,
    "jobrunner_runner": RUNNER,
    "jobrunner_reader": READER,
    "jobrunner_operator": OPERATOR,
}
"""The functions that each role may call. Everything else is denied: but for the readers' views, every table, view and sequence."""

READERS = {"jobrunner_reader", "jobrunner_operator"}

TOUCHES_NOTHING = {"topic_pattern"}
"""May be called, and has no need of the owner's rights."""

DEFINER = "search_path=pg_catalog, jobrunner, pg_temp"


@pytest.fixture(scope="module")
def admin(template: Any) -> Iterator[Connection]:
    """The owner of the server, in a database with the roles; shared, because nothing here changes a row."""
    from tests.conftest import _database

    for dsn in _database(template, template.template_dbname):
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
            conn.execute(roles().encode())
            yield conn


# ------------------------------------------------------------------------- the rules of SECURITY DEFINER (the catalogue)


def test_what_acts_for_its_callers_has_a_search_path_of_its_own_and_is_closed_to_the_public(admin: Connection) -> None:
    functions = admin.execute(
        """select p.proname, p.prosecdef, p.proconfig, p.proowner::regrole::text,
                  exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0)
           from pg_proc p where p.pronamespace = 'jobrunner'::regnamespace"""
    ).fetchall()
    callable_ = frozenset().union(*POLICY.values())

    assert len(functions) > 100
    for name, definer, settings, owner, public in functions:
        assert owner == "jobrunner_owner", name
        assert not public, name
        assert definer == (name in callable_ - TOUCHES_NOTHING), name
        assert not definer or DEFINER in settings, name


def test_without_roles_functions_are_closed_to_the_public_too(tx: Connection) -> None:
    assert not column(
        tx, "select proname from pg_proc where pronamespace = 'jobrunner'::regnamespace and proacl is null"
    )
    assert not column(
        tx,
        """select proname from pg_proc p cross join aclexplode(p.proacl) a
           where p.pronamespace = 'jobrunner'::regnamespace and a.grantee <> p.proowner""",
    )


def test_a_function_that_acts_for_its_callers_builds_names_from_days_only() -> None:
    """Dynamic SQL stands where a table has a day in its name, and nowhere else; that day is checked against the catalogue."""
    dynamic = {
        path.split("/")[-1] for path in names("functions") if re.search(r"^\s*execute ", text(path), re.MULTILINE)
    }

    assert dynamic == {
        f"{name}.sql" for name in ("make_partitions", "free_day_v1", "detach_day_v1", "forget_day_v1", "drop_day_v1")
    }


# ------------------------------------------------------------------------------------------------------- the matrix


def test_a_role_may_call_what_the_policy_says(admin: Connection) -> None:
    for role, allowed in POLICY.items():
        granted = column(
            admin,
            """select p.proname from pg_proc p
               where p.pronamespace = 'jobrunner'::regnamespace and has_function_privilege(%s, p.oid, 'execute')""",
            role,
        )
        assert set(granted) == allowed, role
    assert not column(
        admin,
        "select rolname from pg_roles where starts_with(rolname, 'jobrunner_') and (rolcanlogin or rolsuper or rolcreaterole)",
    )


@pytest.mark.parametrize("role", [*POLICY, "nobody"])
def test_every_other_call_is_denied(admin: Connection, role: str) -> None:
    calls = admin.execute(
        """select p.proname, format('select jobrunner.%I(%s) from (select %s offset 0) x', p.proname, a.names, a.nulls)
           from pg_proc p
           cross join lateral (
               select coalesce(string_agg('x.a' || t.n, ', '), '') as names,
                      coalesce(string_agg(format('null::%s as a%s', t.type::regtype, t.n), ', '), '') as nulls
               from unnest(p.proargtypes) with ordinality t (type, n)
           ) a
           where p.pronamespace = 'jobrunner'::regnamespace"""
    ).fetchall()
    denied = [(name, call) for name, call in calls if name not in POLICY.get(role, ())]

    assert len(denied) > 50
    for name, call in denied:
        assert _refused(admin, role, call), f"{role} may call {name}"


DENIED: dict[str, tuple[LiteralString, ...]] = {
    "table": (
        "select from {}",
        "insert into {} default values",
        "update {} set {} = null",
        "delete from {}",
        "truncate {}",
        "drop table {}",
    ),
    "view": ("select from {} limit 1", "drop view {}"),
    "sequence": ("select from {}", "select nextval('{}')", "select setval('{}', 1)"),
}


@pytest.mark.parametrize("role", [*POLICY, "nobody"])
def test_no_table_view_or_sequence_can_be_touched_but_readers_see_the_views(admin: Connection, role: str) -> None:
    things = admin.execute(
        """select c.oid::regclass::text, case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end,
                  (select quote_ident(a.attname) from pg_attribute a
                   where a.attrelid = c.oid and a.attnum > 0 and a.attidentity = '' limit 1)
           from pg_class c where c.relnamespace = 'jobrunner'::regnamespace and c.relkind in ('r', 'p', 'v', 'S')"""
    ).fetchall()

    assert {kind for _, kind, _ in things} == set(DENIED)
    for name, kind, first in things:
        for statement in DENIED[kind]:
            tried = statement.format(name, first)
            seen = role in READERS and kind == "view" and statement.startswith("select")
            assert _refused(admin, role, tried) != seen, f"{role}: {tried}"


def test_the_only_right_on_a_table_view_or_sequence_is_that_of_readers_to_read_the_views(admin: Connection) -> None:
    rights = admin.execute(
        """select c.relkind::text, c.relname ~ '^v_', a.grantee::regrole::text, a.privilege_type
           from pg_class c cross join aclexplode(c.relacl) a
           where c.relnamespace = 'jobrunner'::regnamespace and a.grantee <> c.relowner"""
    ).fetchall()
    views = "select count(*) from pg_class where relnamespace = 'jobrunner'::regnamespace and relkind = 'v'"

    assert set(rights) == {("v", True, "jobrunner_reader", "SELECT")}
    assert len(rights) == value(admin, views)
    assert not column(
        admin, "select attname from pg_attribute where attacl is not null and attrelid = 'jobrunner.jobs'::regclass"
    )


@pytest.mark.parametrize("role", POLICY)
def test_nobody_but_the_owner_makes_anything_in_the_schema(admin: Connection, role: str) -> None:
    for statement in (
        "create table jobrunner.mine (n int)",
        "create function jobrunner.mine() returns int language sql as 'select 1'",
        "create or replace function jobrunner.schema_version() returns int language sql as 'select 1'",
        "alter table jobrunner.jobs add column mine int",
        "alter function jobrunner.enqueue owner to current_user",
        "create trigger mine before insert on jobrunner.jobs execute function suppress_redundant_updates_trigger()",
        "set role jobrunner_owner",
    ):
        assert _refused(admin, role, statement), statement


def _refused(admin: Connection, role: str, statement: str) -> bool:
    """Tries it as *role*, undoes it; whether the privilege was missing."""
    if role == "nobody":
        role = "jobrunner_stranger"
        admin.execute(
            f"""do $$ begin if to_regrole('{role}') is null then create role {role}; end if; end $$""".encode()
        )
    admin.execute(f"begin; set local session authorization {role}".encode())
    try:
        admin.execute(statement.encode())
    except InsufficientPrivilege:
        return True
    except psycopg.Error:
        return False  # it was let in, and failed at something else
    finally:
        admin.execute("rollback")
    return False


# ----------------------------------------------------------------------------------- what the library executes


def test_what_a_runner_executes_are_functions_that_it_may_call() -> None:
    """No statement of a runner names a table: a new one that does needs a function."""
    worker = Path(jobrunner.worker.__file__).parent
    imported = "\n".join(path.read_text(encoding="utf-8") for path in worker.glob("*.py"))
    named = set(re.findall(r"from jobrunner\.store\.(\w+) import", imported))
    for line in re.findall(r"from jobrunner\.store import (.+)", imported):
        named |= set(line.split(", "))
    modules = [
        import_module(f"jobrunner.store.{name}") for name in named - {"migrate"}
    ]  # it looks before there are functions
    executed = {
        constant
        for module in modules
        for constant in vars(module).values()
        if isinstance(constant, str) and constant.startswith("-- ")
    }

    assert len(executed) > 40
    for statement in executed:
        code = "\n".join(line.split("--")[0] for line in statement.splitlines())
        assert set(re.findall(r"(?:from|into|update|join)\s+jobrunner\.(\w+)(?!\w*\()", code)) == set(), statement
        assert set(re.findall(r"jobrunner\.(\w+)\(", code)) <= RUNNER, statement


def test_every_function_that_a_statement_of_the_library_calls_is_somebodys() -> None:
    owners = ("/testing_", "/adopt_procrastinate_")  # what those of them call, only who owns the schema may
    paths = [path for path in names("queries") + names("ops") if not any(mark in path for mark in owners)]
    called = {name for path in paths for name in re.findall(r"jobrunner\.(\w+)\(", text(path).replace("-- ", "\n"))}

    assert called <= frozenset().union(*POLICY.values())


# ------------------------------------------------------------------------------------------------------- hostility

EVIL = """
create schema evil;
create table evil.caught (what text, who text);
create function evil.catch(what text) returns void language plpgsql as $$
begin
    insert into evil.caught values (what, current_user);
end $$;
create function evil.now() returns timestamptz language plpgsql as
    $$ begin perform evil.catch('now'); return pg_catalog.now(); end $$;
create function evil.clock_timestamp() returns timestamptz language plpgsql as
    $$ begin perform evil.catch('clock_timestamp'); return pg_catalog.clock_timestamp(); end $$;
create function evil.jsonb_typeof(jsonb) returns text language plpgsql as
    $$ begin perform evil.catch('jsonb_typeof'); return 'object'; end $$;
create function evil.set_config(text, text, boolean) returns text language plpgsql as
    $$ begin perform evil.catch('set_config'); return ''; end $$;
create function evil.same(text, text) returns boolean language plpgsql as
    $$ begin perform evil.catch('='); return $1 operator(pg_catalog.=) $2; end $$;
create function evil.more(timestamptz, timestamptz) returns boolean language plpgsql as
    $$ begin perform evil.catch('>'); return $1 operator(pg_catalog.>) $2; end $$;
create function evil.less(integer, integer) returns boolean language plpgsql as
    $$ begin perform evil.catch('<'); return $1 operator(pg_catalog.<) $2; end $$;
create operator evil.= (function = evil.same, leftarg = text, rightarg = text);
create operator evil.> (function = evil.more, leftarg = timestamptz, rightarg = timestamptz);
create operator evil.< (function = evil.less, leftarg = integer, rightarg = integer);
create function evil.stamp() returns bigint language plpgsql as
    $$ begin perform evil.catch('stamp'); return 0; end $$;
create function evil.wake(text) returns void language plpgsql as
    $$ begin perform evil.catch('wake'); end $$;
grant usage on schema evil to public; grant all on all tables in schema evil to public;
"""


@pytest.fixture
def hostile(conn: Connection, login: Login) -> Iterator[Connection]:
    """A session of a login with every role whose temporary tables and search path shadow whatever ours might name carelessly."""
    with psycopg.connect(login("enqueue", "runner", "operator"), autocommit=True) as session:
        conn.execute(EVIL)
        tables = column(
            conn,
            """select relname from pg_class where relnamespace = 'jobrunner'::regnamespace and relkind in ('r', 'p', 'v')
               and relname !~ '_p[0-9]{8}$'""",
        )
        for name in [*tables, "pg_class", "pg_namespace", "pg_inherits", "pg_proc"]:
            session.execute(f"create temporary table {name} (id bigint, name text, value text, state text)".encode())
        session.execute("create function pg_temp.now() returns timestamptz language sql as 'select null::timestamptz'")
        session.execute("set search_path = pg_temp, evil, pg_catalog, jobrunner")
        yield session


def test_a_hostile_search_path_changes_nothing_and_is_never_run_by_the_owner(
    hostile: Connection, conn: Connection
) -> None:
    job, other, many = hostile.execute(
        """select jobrunner.enqueue('shop.t', subject => 'order:1', unique_key => 'u', delay => '1 hour'),
                  jobrunner.enqueue('shop.t', key => 'k'), jobrunner.enqueue_many('[{"task": "shop.t"}]')"""
    ).fetchone() or (0, 0, [])
    hostile.execute(
        """select jobrunner.publish('order.paid', '{"n": 1}'), jobrunner.publish_many('[{"type": "a", "data": {}}]')"""
    )
    hostile.execute(
        """select jobrunner.register_v2(1, '30 s', 10, 'shop', 'h', 1, '1', null,
                  '[{"name": "shop.t", "version": 1, "queue": "default", "priority": 0, "max_attempts": 5, "retry": {}}]', '{}')"""
    )
    hostile.execute("select jobrunner.tick_v1('{default}', '{0}', true, '1 s', 0, '-infinity')")
    assert value(hostile, "select moved from jobrunner.sequence_v1(10)") == 2
    claimed = column(hostile, "select id from jobrunner.claim_v1(1, 10, '{default}', '{0}', '{0}', '{shop.t}', '{1}')")
    assert sorted(claimed) == sorted([other, *many])
    assert value(hostile, "select jobrunner.fence_v1(1, %s, 1)", other) is True
    assert value(hostile, "select jobrunner.finish_v1(1, %s, '{1}')", many) == many
    rows = f'[{{"id": {other}, "attempt": 1, "state": "dead", "failed": true, "outcome": "failed", "reason": "no"}}]'
    assert value(hostile, "select jobrunner.settle_v1(1, %s)", rows) == [other]
    assert value(hostile, "select jobrunner.op_requeue(array[%s]::bigint[])", other) == [other]
    assert value(hostile, "select result from jobrunner.op_cancel(array[%s]::bigint[])", job) == "cancelled"
    hostile.execute("select jobrunner.op_pause('mail'), jobrunner.repair_keys_v1(), jobrunner.drop_leftovers_v1()")
    hostile.execute("select jobrunner.old_partitions_v1('events'), jobrunner.sweep_v1(10), jobrunner.rescue_v1(10)")
    assert "arrived" in value(hostile, "select jobrunner.why(%s)", other)
    assert value(hostile, "select count(*) from jobrunner.trace('order:1')") == 1

    assert conn.execute("select what, who from evil.caught where who = 'jobrunner_owner'").fetchall() == []
    assert conn.execute("select what, who from evil.caught").fetchall() == []
    states: dict[int, str] = dict(conn.execute("select id, state from jobrunner.v_job").fetchall())
    assert states == {job: "cancelled", other: "blocked", many[0]: "succeeded"}
    assert value(conn, "select count(*) from jobrunner.events") == 2
    assert (
        value(hostile, "select count(*) from pg_temp.jobs")
        == value(hostile, "select count(*) from pg_temp.outbox")
        == 0
    )


def test_the_audit_knows_the_login_of_who_says_to_be_somebody_else(conn: Connection, login: Login) -> None:
    dsn = login("operator")
    with psycopg.connect(dsn, autocommit=True) as operator:
        operator.execute("select jobrunner.op_pause('mail', 'the queen')")
        operator.execute("select jobrunner.op_resume('mail')")
        name = operator.info.user

    assert conn.execute("select action, actor, login from jobrunner.audit order by id").fetchall() == [
        ("pause", "the queen", name),
        ("resume", name, name),
    ]


def test_a_runner_clears_away_what_is_old_and_nothing_else(conn: Connection, login: Login) -> None:
    with psycopg.connect(login("runner"), autocommit=True) as runner:
        for call in (
            "select jobrunner.detach_day_v1('finished_jobs', (now() at time zone 'utc')::date)",
            "select jobrunner.drop_day_v1('events', (now() at time zone 'utc')::date)",
            "select jobrunner.drop_day_v1('jobs', '2020-01-01')",
            "select jobrunner.forget_day_v1((now() at time zone 'utc')::date, 0, 10)",
            "select jobrunner.free_day_v1((now() at time zone 'utc')::date)",
        ):
            with pytest.raises(psycopg.Error, match="past its time") as refused:
                runner.execute(call)
            assert refused.value.sqlstate == "JR004"
        with pytest.raises(psycopg.Error, match="0 to 366 days"):
            runner.execute("select jobrunner.make_partitions(now(), 100000)")


# ------------------------------------------------------------------------------------------- who owns what, and when

OWNERS = """
select distinct o.owner::regrole::text
from (
    select nspowner as owner from pg_namespace where nspname = 'jobrunner'
    union all
    select relowner from pg_class where relnamespace = 'jobrunner'::regnamespace
    union all
    select proowner from pg_proc where pronamespace = 'jobrunner'::regnamespace
) o
"""

STRANGERS = """
select p.proname
from pg_proc p
cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
where p.pronamespace = 'jobrunner'::regnamespace and a.grantee = 0
"""


@pytest.fixture
def deployer(bare_dsn: str) -> Iterator[Callable[..., str]]:
    """Makes a login in the bare database that may be a member of something; its dsn."""
    made: list[str] = []
    with psycopg.connect(bare_dsn, autocommit=True) as conn:

        def make(*roles: str) -> str:
            name = f"deploy_{conn.info.dbname}_{len(made)}"
            conn.execute(f"create role {name} login".encode())
            made.append(name)
            for role in roles:
                conn.execute(f"grant {role} to {name}".encode())
            return make_conninfo(bare_dsn, user=name)

        yield make
        for name in made:
            conn.execute(f"drop owned by {name} cascade; drop role {name}".encode())


def test_a_member_of_the_migrator_makes_and_renews_the_schema_for_its_owner(
    bare_dsn: str, deployer: Callable[..., str]
) -> None:
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute(roles().encode())  # before there is anything
        with psycopg.connect(deployer("jobrunner_migrator"), autocommit=True) as deploy:
            assert migrate(deploy).before is None
            assert column(conn, OWNERS) == ["jobrunner_owner"]
            _check_grants(conn)

            # What a later migration does to functions: a new one is there, one was dropped and made anew, one was opened by hand.
            conn.execute("drop function jobrunner.why(bigint); grant execute on function jobrunner.claim_v1 to public")
            conn.execute("grant execute on function jobrunner.settle_v1 to jobrunner_enqueue")
            assert migrate(deploy).before is not None

            _check_grants(conn)
            assert column(conn, OWNERS) == ["jobrunner_owner"]
            assert value(deploy, "select current_user <> 'jobrunner_owner'"), "the session is itself again"
        conn.execute(roles().encode())
        _check_grants(conn)


def _check_grants(conn: Connection) -> None:
    assert column(conn, STRANGERS) == []
    for role, allowed in POLICY.items():
        granted = column(
            conn,
            """select p.proname from pg_proc p
               where p.pronamespace = 'jobrunner'::regnamespace and has_function_privilege(%s, p.oid, 'execute')""",
            role,
        )
        assert set(granted) == allowed, role


def test_what_another_login_migrated_before_there_were_roles_changes_hands(
    bare_dsn: str, deployer: Callable[..., str]
) -> None:
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        before = deployer()
        conn.execute(f"grant create on database {conn.info.dbname} to public".encode())
        with psycopg.connect(before, autocommit=True) as app:
            migrate(app)
            app.execute("select jobrunner.enqueue('shop.t')")
            assert column(conn, OWNERS) == [app.info.user]

            conn.execute(roles().encode())

            assert column(conn, OWNERS) == ["jobrunner_owner"]
            with pytest.raises(InsufficientPrivilege):
                migrate(app)
            conn.execute(f"grant jobrunner_migrator to {app.info.user}".encode())
            assert migrate(app) == Migrated(3, 3)
        assert column(conn, OWNERS) == ["jobrunner_owner"]
        assert value(conn, "select count(*) from jobrunner.jobs") == 1


def test_a_database_without_roles_stays_its_logins_own_where_the_server_has_them(
    conn: Connection, login: Login, bare_dsn: str, deployer: Callable[..., str]
) -> None:
    """Roles belong to the server; that another database uses them must not change this one."""
    with psycopg.connect(bare_dsn, autocommit=True) as bare:
        bare.execute(f"grant create on database {bare.info.dbname} to public".encode())
        with psycopg.connect(deployer("jobrunner_migrator"), autocommit=True) as app:
            migrate(app)
            migrate(app)
            assert column(bare, OWNERS) == [app.info.user]
            assert value(app, "select jobrunner.enqueue('shop.t')") == 1
        with psycopg.connect(bare_dsn, autocommit=True) as superuser:
            migrate(superuser)
        assert column(bare, STRANGERS) == []
        runner = make_conninfo(bare_dsn, user=conninfo_to_dict(login("runner"))["user"])
        with psycopg.connect(runner) as elsewhere, pytest.raises(InsufficientPrivilege):
            elsewhere.execute("select jobrunner.enqueue('shop.t')")


def test_a_creator_of_roles_who_is_no_superuser_can_set_them_up(server: Any) -> None:
    """As on a hosted server: the login may create roles and owns the database."""
    with psycopg.connect(server.dsn, autocommit=True) as root:
        root.execute("create role host login createrole")
        root.execute("create database hosted owner host")
    with psycopg.connect(make_conninfo(server.dsn, user="host", dbname="hosted"), autocommit=True) as host:
        migrate(host)
        host.execute(roles().encode())
        assert column(host, OWNERS) == ["jobrunner_owner"]
        assert migrate(host).before == 3
        host.execute("create role web login; grant jobrunner_enqueue to web")
    with psycopg.connect(make_conninfo(server.dsn, user="web", dbname="hosted"), autocommit=True) as web:
        assert value(web, "select jobrunner.enqueue('shop.t')") == 1
        with pytest.raises(InsufficientPrivilege):
            web.execute(sql.SQL("select from {}").format(sql.Identifier("jobrunner", "v_job")))


def test_a_role_sees_the_same_settings_of_its_transaction_as_before(
    conn: Connection, login: Login, connect: Connect
) -> None:
    """A SET clause on a function ends with it; what the function sets for the transaction must not."""
    with psycopg.connect(login("runner")) as handler:
        handler.execute("select jobrunner.fence_v1(1, 1, 1)")
        assert value(handler, "show idle_in_transaction_session_timeout") == "10s"
        handler.execute("set local jobrunner.cause_job_id = '7'")
        job = value(handler, "select jobrunner.enqueue('shop.t')")
        assert value(handler, "show search_path") == '"$user", public'
        handler.commit()

    assert value(conn, "select cause_job_id from jobrunner.v_job where id = %s", job) == 7
