"""The schema: installed once, by whoever comes first; its checks hold the invariants; its names are fixed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from jobrunner.errors import SchemaMissing, SchemaTooNew, SchemaTooOld
from jobrunner.policy.lifecycle import BlockedOn, State
from jobrunner.store.migrate import OLDEST_SCHEMA, SCHEMA_VERSION, Installed, check, installed, migrate
from jobrunner.store.queries import SQL, names, text
from tests.conftest import Connect
from tests.store.calls import Connection, column, value

pytestmark = pytest.mark.pg16

CATALOGUE = """
select 'column', c.table_name, c.column_name, c.data_type, c.is_nullable, c.column_default, c.collation_name
from information_schema.columns c where c.table_schema = 'jobrunner'
union all
select 'index', tablename, indexname, indexdef, null, null, null from pg_indexes where schemaname = 'jobrunner'
union all
select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), null, null, null
from pg_constraint where connamespace = 'jobrunner'::regnamespace
union all
select 'relation', relname, relkind::text, array_to_string(reloptions, ','), null, null, null
from pg_class where relnamespace = 'jobrunner'::regnamespace
union all
select 'sequence', sequencename, data_type::text, cache_size::text, min_value::text, start_value::text, null
from pg_sequences where schemaname = 'jobrunner'
union all
select 'view', viewname, definition, null, null, null, null from pg_views where schemaname = 'jobrunner'
union all
select 'function', p.proname, pg_get_functiondef(p.oid), null, null, null, null
from pg_proc p where p.pronamespace = 'jobrunner'::regnamespace
order by 1, 2, 3, 4
"""

DAYS: LiteralString = (
    "select oid::regclass::text from pg_class "
    "where relispartition and relkind = 'r' and relnamespace = 'jobrunner'::regnamespace"
)

JOBS = (
    "id state queue task version priority seq run_at attempt failures crashes max_attempts key key_pos holds_key "
    "blocked_on args headers "
    "runner_id started_at finished_at reason error created_at"
)


@pytest.fixture
def bare(bare_dsn: str) -> Any:
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        yield conn


def test_the_states_in_python_are_the_states_in_the_check(tx: Connection) -> None:
    def words(constraint: str) -> set[str]:
        return set(
            column(
                tx,
                """select (regexp_matches(pg_get_constraintdef(oid), '''([a-z]+)''', 'g'))[1] from pg_constraint
                   where conname = %s and conrelid = 'jobrunner.jobs'::regclass""",
                constraint,
            )
        )

    assert words("jobs_state_known") == {str(state) for state in State}
    assert words("jobs_blocked_on_known") == {str(what) for what in BlockedOn}


def test_the_schema_is_the_sum_of_its_migrations(conn: Connection, bare: Connection) -> None:
    for path in names("migrations"):
        bare.execute(text(path))
    for path in names("functions"):
        bare.execute(text(path))
    for session in (bare, conn):  # of the same days, though midnight may have passed between the two
        for day in column(session, DAYS):
            session.execute(f"drop table {day}")
        session.execute("select jobrunner.make_partitions('2030-01-01Z', 7)")

    assert bare.execute(CATALOGUE).fetchall() == conn.execute(CATALOGUE).fetchall()
    assert len(names("migrations")) == SCHEMA_VERSION


def test_migrating_again_changes_nothing(bare: Connection) -> None:
    first = migrate(bare)
    before = bare.execute(CATALOGUE).fetchall()

    second = migrate(bare)

    assert (first.before, first.after, second.before, second.after) == (
        None,
        SCHEMA_VERSION,
        SCHEMA_VERSION,
        SCHEMA_VERSION,
    )
    assert bare.execute(CATALOGUE).fetchall() == before


def test_of_two_migrations_at_once_one_waits_and_finds_it_done(
    bare: Connection, bare_dsn: str, background: Callable[..., Future[Any]]
) -> None:
    with psycopg.connect(bare_dsn, autocommit=True) as other:
        both = [background(migrate, session) for session in (bare, other)]
        found = sorted(str(each.result(20).before) for each in both)

    assert found == [str(SCHEMA_VERSION), "None"]


def test_another_version_of_the_schema_is_a_typed_error(conn: Connection, bare: Connection) -> None:
    with pytest.raises(SchemaMissing):
        check(installed(bare))
    with pytest.raises(SchemaTooOld, match="run `jobrunner migrate`"):
        check(Installed(OLDEST_SCHEMA - 1, serves=1))
    check(installed(conn))
    change = "update jobrunner.settings set value = to_jsonb(%s::int) where name = any (%s)"
    conn.execute(change, [SCHEMA_VERSION + 1, ["schema_version"]])
    check(installed(conn))  # newer, and it says that it still serves this library
    with pytest.raises(SchemaTooNew):
        migrate(conn)
    conn.execute(change, [SCHEMA_VERSION + 1, ["schema_serves"]])

    with pytest.raises(SchemaTooNew, match="upgrade jobrunner in this environment"):
        check(installed(conn))


def test_every_file_for_psql_runs_as_it_stands(dsn: str, psql: Path) -> None:
    files = sorted((SQL / "ops").glob("*.sql"))
    assert files
    for file in files:
        ran = subprocess.run(
            [psql, dsn, "-X", "-v", "ON_ERROR_STOP=1", "-f", file],
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), file


def test_the_columns_that_others_build_on_are_there(tx: Connection) -> None:
    there = "select column_name from information_schema.columns where table_schema = 'jobrunner' and table_name = %s"
    side = set(column(tx, there, "v_job"))

    assert not set(JOBS.split()) - set(column(tx, there, "jobs"))
    assert not set(JOBS.split()) - {"args", "headers", "seq"} - side
    assert (
        not {
            "subject",
            "unique_key",
            "correlation_id",
            "cause_job_id",
            "cause_event",
            "parent_id",
            "group_id",
            "result",
        }
        - side
    )
    assert not {"args", "headers"} & side, "no view shows a payload"


def test_jobs_has_these_indexes_and_no_others(tx: Connection) -> None:
    """Six more took the drain from 19,100 jobs/s to 8,000."""
    expected = {
        "jobs_pkey",
        "jobs_ready",
        "jobs_due",
        "jobs_running",
        "jobs_arrived",
        "jobs_waiting",
        "jobs_holding",
        "jobs_parked",
        "jobs_ended",
    }

    assert (
        set(column(tx, "select indexname from pg_indexes where schemaname = 'jobrunner' and tablename = 'jobs'"))
        == expected
    )


ILLEGAL = {
    "jobs_state_known": {"state": "done"},
    "jobs_finished_at": {"state": "dead"},
    "jobs_runner_id": {"state": "running", "attempt": 1},
    "jobs_blocked_on": {"state": "blocked"},
    "jobs_blocked_on_known": {"state": "blocked", "blocked_on": "the moon"},
    "jobs_counters": {"failures": 11, "attempt": 11},
    "jobs_holds_key": {"holds_key": True},
    "jobs_key_in_turn": {"key": "k"},
    "jobs_key_line": {"key": "k", "state": "blocked", "blocked_on": "key"},
    "jobs_unique_until": {"unique_until": "never"},
}


@pytest.mark.parametrize(
    ("constraint", "row"),
    [
        *ILLEGAL.items(),
        ("jobs_finished_at", {"finished_at": "now"}),
        ("jobs_runner_id", {"runner_id": 1}),
        ("jobs_blocked_on", {"blocked_on": "task"}),
        ("jobs_counters", {"failures": 1}),
        ("jobs_counters", {"failures": -1}),
        ("jobs_counters", {"crashes": -1}),
        ("jobs_key_line", {"state": "blocked", "blocked_on": "arrival"}),
        ("jobs_key_line", {"key": "k", "key_pos": 1, "state": "blocked", "blocked_on": "arrival"}),
        ("jobs_key_line", {"key": "k", "key_pos": 1, "holds_key": True, "state": "blocked", "blocked_on": "key"}),
    ],
)
def test_a_row_that_cannot_be_is_refused(tx: Connection, constraint: str, row: dict[str, object]) -> None:
    columns = ", ".join(row)
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        tx.execute(
            f"insert into jobrunner.jobs (task, {columns}) values ('t', {', '.join(['%s'] * len(row))})",
            list(row.values()),
        )

    assert refused.value.diag.constraint_name == constraint


def test_every_check_of_jobs_has_a_row_that_it_refuses(tx: Connection) -> None:
    checks = column(
        tx, "select conname from pg_constraint where conrelid = 'jobrunner.jobs'::regclass and contype = 'c'"
    )

    assert set(checks) == set(ILLEGAL)


def test_every_function_that_switches_plans_off_switches_jit_off_too(tx: Connection) -> None:
    """With jit on, a plan that is switched off costs 300 ms a call to compile."""
    settings = tx.execute(
        """select proname, proconfig from pg_proc
           where pronamespace = 'jobrunner'::regnamespace and 'enable_seqscan=off' = any (proconfig)"""
    ).fetchall()

    assert len(settings) > 20
    assert [name for name, set_ in settings if "jit=off" not in set_] == []


def test_no_condition_of_a_function_asks_the_volatile_clock() -> None:
    """`where run_at <= clock_timestamp()` is served by no index: 1,005 ms over 3 M rows, against 0.06 with now()."""
    for path in names("functions") + names("queries"):
        for line in text(path).splitlines():
            words = line.split("--")[0].strip().lower()
            assert not (words.startswith(("where", "and", "or")) and "clock_timestamp()" in words), f"{path}: {line}"


def test_a_search_path_of_the_users_own_changes_nothing(conn: Connection, connect: Connect) -> None:
    own = connect()
    own.execute("create schema evil; create table evil.jobs (id int); set search_path = evil")

    assert value(own, "select jobrunner.enqueue('t')") == value(conn, "select max(id) from jobrunner.jobs")
