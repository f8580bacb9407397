"""The command line by logins that have a role and no table: operators change, readers look, and each is told what it may not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobrunner.store import condition
from jobrunner.store.migrate import roles
from tests.conftest import Connect, Connection, Login
from tests.ops.shell import Shell, bury, enqueue, register, spawn, states

pytestmark = pytest.mark.pg16

APP = """
from jobrunner import App, Context, Event
app = App("shop")

class Paid(Event, name="order.paid", key="order"):
    order: str

@app.on(Paid, ordered=True)
def post(ctx: Context, event: Paid) -> None: ...
"""


@pytest.fixture
def shell(login: Login, capsys: pytest.CaptureFixture[str]) -> Shell:
    """As an operator."""
    return Shell(login("operator"), capsys)


@pytest.fixture
def reader(login: Login, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(login("reader"), capsys)


@pytest.fixture
def subscribed(conn: Connection) -> None:
    """An ordered subscription with three deliveries, the first of them dead, and one that takes replays."""
    register(conn, "shop.post", "shop.mail")
    for name, ordered in (("shop.post", True), ("shop.mail", False)):
        spec = {
            "types": ["order.*"],
            "queue": "events",
            "ordered": ordered,
            "on_dead": "block_key" if ordered else "skip",
        }
        conn.execute("select jobrunner.subscribe_v1(%s, 'shop', %s, null)", [name, json.dumps(spec)])
    for _ in range(3):
        conn.execute("""select jobrunner.publish('order.paid', '{"order": "1"}', key => '1')""")
    conn.execute("select jobrunner.sequence_v1(10)")
    conn.execute("select jobrunner.seat_v1(10)")
    first = conn.execute("select min(id) from jobrunner.jobs where task = 'shop.post'").fetchone()
    assert first is not None
    bury(conn, first[0])


def test_an_operator_mends_jobs(shell: Shell, conn: Connection) -> None:
    dead = [enqueue(conn, subject="order:1") for _ in range(4)]
    later, ready = enqueue(conn, delay="1 hour"), enqueue(conn)
    bury(conn, *dead)

    done = [
        shell("dead", "requeue", dead[0]),
        shell("dead", "discard", dead[1]),
        shell("dead", "requeue", "--task", "shop.send", "--error", "no", "--limit", 1, "--yes"),
        shell("jobs", "retry", later),
        shell("jobs", "cancel", ready),
        shell("queues", "pause", "default"),
        shell("queues", "resume", "default"),
        shell("why", dead[3]),
        shell("trace", "order:1"),
    ]

    assert [(one.code, one.err) for one in done] == [(0, "")] * len(done)
    ended = states(conn)
    assert [ended[one] for one in (*dead, later, ready)] == [
        "ready",
        "cancelled",
        "ready",
        "dead",
        "ready",
        "cancelled",
    ]
    user = conninfo_to_dict(shell.dsn)["user"]
    assert conn.execute("select distinct login from jobrunner.audit").fetchall() == [(user,)]
    assert conn.execute("select count(*) from jobrunner.audit where actor <> login").fetchone() == (7,)


@pytest.mark.usefixtures("subscribed")
def test_an_operator_mends_events(shell: Shell, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    conn.execute(
        "insert into jobrunner.sagas (name, key, state) values ('shop.pay', '1', '{}'), ('shop.pay', '2', '{}')"
    )

    done = [
        shell("subs", "list"),
        shell("subs", "resolve", "shop.post", "1", "retry"),
        shell("subs", "pause", "shop.mail", "--reason", "audit"),
        shell("subs", "resume", "shop.mail"),
        shell("subs", "skip", "shop.mail", 2),
        shell("replay", "start", "shop.mail", "--after", 0, "--upto", 2),
        shell("replay", "list"),
        shell("replay", "cancel", 1),
        shell("replay", "start", "shop.post", "--after", 1, "--yes"),
        shell("sagas", "compensate", "shop.pay", 1),
        shell("sagas", "complete", "shop.pay", 2),
        spawn("subs", "diff", "shop:app", dsn=shell.dsn, cwd=tmp_path),
        spawn("subs", "apply", "shop:app", "--yes", dsn=shell.dsn, cwd=tmp_path),
        shell("subs", "remove", "shop.mail", "--yes"),
    ]

    assert [(one.code, one.err) for one in done if one.code] == []
    assert conn.execute("select name from jobrunner.subscriptions").fetchall() == [("shop.post",)]


def test_a_reader_looks_and_changes_nothing(reader: Shell, conn: Connection) -> None:
    job = enqueue(conn, subject="order:1")

    for looked in (
        ("why", job),
        ("trace", "order:1"),
        ("subs", "list"),
        ("events", "list"),
        ("events", "types"),
        ("replay", "list"),
        ("sagas", "list"),
        ("status",),
        ("health", "--min-runners", 0),
        ("jobs", "list"),
        ("jobs", "show", job),
        ("dead", "list"),
        ("queues", "list"),
        ("runners",),
        ("doctor",),
    ):
        told = reader(*looked)
        assert told.code == 0 or looked == ("doctor",), looked
        assert "may not use" not in told.err, looked
    for changed in (("jobs", "cancel", job), ("subs", "pause", "shop.mail"), ("enqueue", "shop.send")):
        refused = reader(*changed)
        assert refused.code == 1
        assert "may not use function" in refused.err
        assert "`jobrunner sql roles` has them all" in refused.err
    assert states(conn) == {job: "ready"}


def test_a_reader_counts_the_sessions_that_it_may_not_see(login: Login, connect: Connect) -> None:
    others = [connect() for _ in range(5)]

    with psycopg.connect(login("reader")) as mine:
        told = condition.server(mine)

    assert not told.sees_all_sessions
    assert told.sessions > len(others)


def test_who_enqueues_and_reads_uses_both_commands(
    login: Login, capsys: pytest.CaptureFixture[str], conn: Connection
) -> None:
    shell = Shell(login("enqueue", "reader"), capsys)
    register(conn, "shop.send")

    assert (shell("enqueue", "shop.send").code, shell("publish", "order.paid").code) == (0, 0)
    assert shell("enqueue", "shop.sent").code == 4
    assert list(states(conn).values()) == ["ready"]


def test_the_roles_are_printed_without_a_connection_for_psql(capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell("host=nowhere", capsys)
    printed = shell("sql", "roles")

    assert printed.code == 0
    assert printed.out == roles().rstrip("\n") + "\n"
    assert printed.out.rstrip().endswith("commit;")
    assert shell("sql", "roles", "--json").json["name"] == "roles"
    assert "roles" in shell("sql").out


def test_the_logins_of_the_page_can_do_what_it_says(
    login: Login, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "roles.md").read_text()
    [made] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    names = re.findall(r"create role (\w+)", made)
    login()  # the roles are there
    try:
        conn.execute(made)
        shells = {name: Shell(make_conninfo(conn.info.dsn, user=name), capsys) for name in names}
        assert shells["shop_deploy"]("migrate").code == 0
        for name, call in (
            ("shop_web", "enqueue('shop.t')"),
            ("shop_worker", "publish('a', '{}')"),
            ("dashboard", "why(1)"),
        ):
            with psycopg.connect(shells[name].dsn) as session:
                assert session.execute(f"select jobrunner.{call}".encode()).fetchone()
        assert shells["ann"]("subs", "pause", "shop.mail").code == 4
        job = enqueue(conn)
        denied = shells["dashboard"]("jobs", "cancel", job)
        [sentence] = re.findall(r"^error: .*$", page, re.MULTILINE)
        assert (denied.code, denied.err) == (1, f"{sentence}\n")
    finally:
        for name in names:
            conn.execute(f"drop owned by {name}; drop role {name}".encode())


def test_a_login_of_the_migrator_migrates(login: Login, capsys: pytest.CaptureFixture[str], conn: Connection) -> None:
    owners = "select distinct proowner::regrole::text from pg_proc where pronamespace = 'jobrunner'::regnamespace"

    assert Shell(login("migrator"), capsys)("migrate").code == 0
    refused = Shell(login("runner"), capsys)("migrate")

    assert conn.execute(owners).fetchall() == [("jobrunner_owner",)]
    assert refused.code == 1
    assert "the database role" in refused.err
    with psycopg.connect(login("runner")) as runner:
        assert runner.execute("select jobrunner.enqueue('shop.send')").fetchone()
