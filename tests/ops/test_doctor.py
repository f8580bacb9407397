"""doctor: each trouble is made for real, found, and mended by the cure that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from jobrunner.ops import doctor
from jobrunner.ops.attention import Attention
from jobrunner.store import condition
from jobrunner.store.condition import BlockerRow, Deaths, ServerRow, TableRow
from jobrunner.store.migrate import SCHEMA_VERSION, Installed
from jobrunner.store.rows import RunnerRow
from tests.conftest import Connect, Connection
from tests.ops.shell import Shell
from tests.store import calls
from tests.support import wait_until

WELL = ServerRow(
    major=18, encoding="UTF8", autovacuum=True, track_counts=True, is_standby=False, notifications=0.0, sessions=5,
    max_connections=100, role="ann", sees_all_sessions=True, never_vacuumed=[], owners=["ann"], open_to_all=0,
    missing_functions=[],
)  # fmt: skip
TABLE = TableRow(
    table_name="finished_jobs", live=100_000, dead=0, dead_pct=0.0, last_autovacuum=None, bytes=1, kept=timedelta(days=7),
    oldest_partition=date(2026, 1, 1), partitions_ahead=7,
)  # fmt: skip
RUNNER = RunnerRow(
    id=1, state="alive", app="shop", host="box", pid=7, version="1", queues=None, slots=10, busy=0, listening=True,
    started_at=datetime(2026, 1, 1, tzinfo=UTC), beat_age=timedelta(0), poll=timedelta(seconds=1),
    schema_oldest=SCHEMA_VERSION, schema_newest=SCHEMA_VERSION, tasks=["shop.t"],
)  # fmt: skip
FACTS = doctor.Facts(
    server=WELL,
    installed=Installed(SCHEMA_VERSION, serves=2),
    tables=[TABLE],
    blockers=[],
    runners=[RUNNER],
    deaths=Deaths(last_hour=0, usual=0.0),
    today=date(2026, 1, 8),
)


def found(facts: doctor.Facts, *work: Attention) -> dict[str, str]:
    """The codes of the findings, each with its severity."""
    return {one.code: one.severity for part in doctor.examine(facts, work) for one in part.findings}


@pytest.mark.parametrize(
    ("changed", "code", "severity"),
    [
        ({"major": 13}, "server_too_old", "error"),
        ({"encoding": "SQL_ASCII"}, "encoding", "error"),
        ({"is_standby": True}, "standby", "notice"),
        ({"notifications": 0.11}, "notifications_stuck", "error"),
        ({"sessions": 91}, "connections_short", "warning"),
        ({"missing_functions": ["claim_v1"]}, "schema_incomplete", "error"),
        ({"owners": ["ann", "bob"]}, "owners_differ", "warning"),
        ({"open_to_all": 3}, "functions_open", "warning"),
        ({"sees_all_sessions": False}, "sessions_hidden", "notice"),
        ({"autovacuum": False}, "autovacuum_off", "error"),
        ({"track_counts": False}, "autovacuum_off", "error"),
        ({"never_vacuumed": ["jobs"]}, "autovacuum_off", "error"),
    ],
)
def test_what_the_server_lacks(changed: dict[str, Any], code: str, severity: str) -> None:
    assert found(FACTS) == {}
    assert found(replace(FACTS, server=replace(WELL, **changed))) == {code: severity}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"partitions_ahead": 1}, "partitions_short"),
        ({"oldest_partition": date(2025, 12, 28)}, "partitions_old"),
        ({"dead": 60_000, "dead_pct": 37.5}, "dead_rows"),
    ],
)
def test_what_a_table_shows(changed: dict[str, Any], code: str) -> None:
    assert found(replace(FACTS, tables=[replace(TABLE, **changed)])) == {code: "warning"}


def test_runners_of_other_versions_and_deaths_that_grow() -> None:
    other = replace(RUNNER, version="2")
    assert found(replace(FACTS, runners=[RUNNER, other])) == {"version_skew": "notice"}
    assert found(replace(FACTS, runners=[RUNNER, replace(other, state="lost")])) == {}
    assert found(replace(FACTS, runners=[replace(RUNNER, schema_newest=None)])) == {"runner_older": "notice"}
    newer = Installed(SCHEMA_VERSION + 1, serves=2)
    assert found(replace(FACTS, installed=newer, runners=[])) == {"schema_newer": "notice"}

    assert found(replace(FACTS, deaths=Deaths(last_hour=9, usual=0.0))) == {}
    assert found(replace(FACTS, deaths=Deaths(last_hour=10, usual=0.5))) == {"dead_growth": "warning"}
    assert found(replace(FACTS, deaths=Deaths(last_hour=100, usual=50.0))) == {}


def test_a_cure_can_be_pasted_whatever_the_name_is() -> None:
    held = BlockerRow(
        pid=None, kind="prepared", name="o'hara", age=timedelta(hours=1), xmin_age=5, role="bob", application=None,
        query_head=None,
    )  # fmt: skip
    facts = replace(FACTS, blockers=[held], server=replace(WELL, role="web-pages", sees_all_sessions=False))

    cures = [one.hint for part in doctor.examine(facts, []) for one in part.findings]

    assert cures == ['grant pg_read_all_stats to "web-pages"', "rollback prepared 'o''hara'"]


def test_what_attention_tells_less_well_is_told_once() -> None:
    old = Attention("old_transaction", "warning", "", "a transaction …", "…")
    lost = Attention("queue_unread", "error", "mail", "…", "…")
    held = BlockerRow(
        pid=7, kind="idle_in_tx", name=None, age=timedelta(hours=1), xmin_age=5, role="bob", application="psql", query_head="x"
    )  # fmt: skip

    assert found(replace(FACTS, blockers=[held]), old, lost) == {"old_snapshot": "warning", "queue_unread": "error"}


# -------------------------------------------------------------------------------------------------- on real trouble


def findings(shell: Shell) -> dict[str, dict[str, Any]]:
    """What doctor finds, by code."""
    result = shell("doctor", "--json")
    told = {one["code"]: one for part in result.json["checks"] for one in part["findings"]}
    assert result.code == (3 if {one["severity"] for one in told.values()} - {"notice"} else 0)
    assert (result.json["status"] == "fail") == (result.code == 3)
    return told


@contextmanager
def mended(shell: Shell, conn: Connection, code: str) -> Iterator[dict[str, Any]]:
    """The finding is there, and after the block it is not."""
    assert code in findings(shell)
    yield findings(shell)[code]
    assert code not in findings(shell)


@pytest.fixture
def shell(dsn: str, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(dsn, capsys)


def test_a_healthy_database_is_well(shell: Shell, conn: Connection) -> None:
    calls.register(conn)
    conn.execute("update jobrunner.runners set schema_newest = %s, listening = true", [SCHEMA_VERSION])

    assert findings(shell) == {}
    told = shell("doctor").out
    assert told.startswith("ok")
    assert "partitions" in told


def test_who_holds_an_old_snapshot_is_named_and_the_cure_ends_it(
    shell: Shell, conn: Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.ops.attention.LONG_TRANSACTION", timedelta(0))
    sleeper = connect(autocommit=False, application_name="a forgotten psql")
    sleeper.execute("select count(*) from jobrunner.jobs; select pg_current_xact_id()")

    with mended(shell, conn, "old_snapshot") as one:
        assert one["subject"] == str(sleeper.info.backend_pid)
        assert "a forgotten psql" in one["message"]
        conn.execute(one["hint"])
    with pytest.raises(psycopg.OperationalError):
        sleeper.execute("select 1")


@pytest.mark.parametrize("waits", [False, True], ids=["has", "waits for"])
def test_who_locks_a_table_is_named_where_nothing_can_be_read(
    shell: Shell,
    conn: Connection,
    connect: Connect,
    blocked: Callable[[Connection], None],
    monkeypatch: pytest.MonkeyPatch,
    waits: bool,
) -> None:
    monkeypatch.setattr("jobrunner.ops.cli.doctor.PATIENCE", "100ms")
    reading, locking = (connect(autocommit=False, application_name=name) for name in ("a report", "a migration"))
    lock = "lock table jobrunner.jobs in access exclusive mode"
    with ThreadPoolExecutor(1) as threads:
        if waits:
            reading.execute("select from jobrunner.jobs")
            waiting = threads.submit(locking.execute, lock)
            blocked(locking)
        else:
            locking.execute(lock)

        with mended(shell, conn, "table_locked") as one:
            assert one["subject"] == "jobs"
            assert f"pid {locking.info.backend_pid} (" in one["message"]
            assert "a migration" in one["message"]
            conn.execute(one["hint"])
            wait_until(lambda: not condition.lock_holders(conn), what="the end of the session")
        if waits:
            with pytest.raises(psycopg.OperationalError):
                waiting.result(10)


@pytest.mark.parametrize("off", ["false", "off", "0"])
def test_a_table_without_autovacuum(shell: Shell, conn: Connection, off: str) -> None:
    conn.execute(f"alter table jobrunner.jobs set (autovacuum_enabled = {off})".encode())

    with mended(shell, conn, "autovacuum_off") as one:
        conn.execute(one["hint"])


def test_missing_partitions_and_functions(shell: Shell, conn: Connection) -> None:
    days = (
        "select inhrelid::regclass::text as day from pg_inherits where inhparent = 'jobrunner.finished_jobs'::regclass"
    )
    today = f"jobrunner.finished_jobs_p{datetime.now(UTC):%Y%m%d}"
    for (name,) in conn.execute(f"select day from ({days}) x where day > %s", [today]).fetchall():
        conn.execute(f"drop table {name}".encode())
    conn.execute("drop function jobrunner.op_pause")

    with mended(shell, conn, "partitions_short"), mended(shell, conn, "schema_incomplete"):
        assert "op_pause" in findings(shell)["schema_incomplete"]["message"]
        assert shell("migrate").code == 0


def test_a_queue_that_nobody_reads_and_a_task_that_nobody_knows(shell: Shell, conn: Connection) -> None:
    calls.register(conn, 1)
    conn.execute("update jobrunner.runners set queues = '{default}'")
    calls.enqueue(conn, queue="mail")
    calls.enqueue(conn, "shop.unknown")

    told = findings(shell)

    assert told["queue_unread"]["hint"] == "jobrunner run APP --queue mail"
    assert told["task_unknown"]["subject"] == "shop.unknown"
    calls.register(conn, 2, [calls.TASK, "shop.unknown"])
    assert not findings(shell).keys() & {"queue_unread", "task_unknown"}


def test_a_runner_that_is_silent_and_one_of_an_older_library(shell: Shell, conn: Connection) -> None:
    calls.register(conn, 1)
    conn.execute("update jobrunner.runners set beat_at = now() - interval '1 minute' where id = 1")
    calls.register(conn, 2)  # by register_v1, as a library of version 2 does

    told = findings(shell)

    assert told["runner_silent"]["severity"] == "warning"
    assert told["runner_older"]["severity"] == "notice"


def test_deaths_are_counted_by_the_hour(tx: Connection) -> None:
    insert = """
        insert into jobrunner.jobs (task, state, finished_at)
        select 'shop.t', 'dead', now() - %s * interval '1 hour' from generate_series(1, %s)
    """
    for hours, many in ((0.5, 3), (1.5, 12), (24.5, 36), (26, 5)):
        tx.execute(insert, [hours, many])

    assert condition.deaths(tx) == Deaths(last_hour=3, usual=2.0)
