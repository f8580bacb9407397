"""A role that may read the views, and nothing else, can look at everything but payloads."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from jobrunner.ops.http import create_app
from jobrunner.ops.http.openapi import document
from tests.conftest import Connection
from tests.ops.asgi import ask
from tests.ops.shell import Shell, bury, enqueue, register
from tests.store import calls

pytestmark = pytest.mark.pg16

FUNCTIONS = ("why", "trace", "schema_version")
"""What a reader may call; the version is a table's where no function has it."""

_numbers = itertools.count(1)


@pytest.fixture
def jobs(conn: Connection) -> dict[str, int]:
    """One job in each state, and a runner."""
    register(conn, "shop.send")
    ids = {name: enqueue(conn, subject="order:42", args='{"card": 4711}') for name in ("dead", "done", "ready")}
    bury(conn, ids["dead"], error="OSError: no route to 'mail-1'")
    claims = calls.claim(conn, calls.register(conn, 5, ["shop.send"]), n=1, tasks={"shop.send": 1})
    calls.settle(conn, 5, claims, "succeeded", result={"secret": 1})
    ids["done"] = claims[0].id
    ids["late"] = enqueue(conn, delay="1 hour", queue="mail")
    ids["key"] = enqueue(conn, key="k")
    conn.execute("select jobrunner.op_pause('mail', 'ann', 'the printer is on fire')")
    return ids


@pytest.fixture
def reader(dsn: str, conn: Connection, jobs: dict[str, int]) -> Iterator[str]:
    """The address of a login with the views, `why` and `trace`."""
    name = f"views_only_{os.getpid()}_{next(_numbers)}"
    role = sql.Identifier(name)
    conn.execute(sql.SQL("create role {} login").format(role))
    conn.execute(sql.SQL("grant usage on schema jobrunner to {}").format(role))
    views = "select relname from pg_class where relnamespace = 'jobrunner'::regnamespace and relkind = 'v'"
    for view in calls.column(conn, views):
        conn.execute(sql.SQL("grant select on jobrunner.{} to {}").format(sql.Identifier(view), role))
    conn.execute(sql.SQL("grant select on jobrunner.settings to {}").format(role))
    named = "select oid::regprocedure::text from pg_proc where pronamespace = 'jobrunner'::regnamespace and proname = any (%s)"
    for function in calls.column(conn, named, list(FUNCTIONS)):
        conn.execute(sql.SQL("grant execute on function {} to {}").format(sql.SQL(function), role))
    yield make_conninfo(dsn, user=name)
    conn.execute(sql.SQL("drop owned by {}").format(role))
    conn.execute(sql.SQL("drop role {}").format(role))


COMMANDS = (
    "status", "health", "jobs list", "jobs list --subject order:42 --state ready", "jobs list --queue default --since 1h",
    "dead list", "dead list --error route", "dead groups", "queues list", "runners --all", "why {dead}", "why {done}", "why {key}",
    "trace order:42", "trace {ready}",
)  # fmt: skip


def test_the_views_are_enough_to_look(
    dsn: str, reader: str, jobs: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in COMMANDS:
        args = command.format(**jobs).split()
        ours, theirs = Shell(dsn, capsys)(*args), Shell(reader, capsys)(*args)

        assert (theirs.code, theirs.err) == (0, ""), command
        assert theirs.out.split()[:2] == ours.out.split()[:2], command


def test_a_job_is_shown_without_what_it_was_given_and_returned(
    dsn: str, reader: str, jobs: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (Shell(who, capsys)("jobs", "show", jobs["done"], "--json").json for who in (dsn, reader))
    shown = Shell(reader, capsys)("jobs", "show", jobs["done"])

    assert ours["result"] == {"secret": 1}
    assert set(ours) - set(theirs) == {"args", "headers", "result"}
    assert theirs["why"] == ours["why"]
    assert "not for this role" in shown.out
    assert shown.code == 0
    assert "secret" not in shown.out


async def test_the_status_over_http_needs_no_more(reader: str, jobs: dict[str, int]) -> None:
    app = create_app(reader, insecure=True)
    paths = ["/", "/jobs", "/readyz", *(f"/jobs/{job}" for job in jobs.values())]
    paths += [f"/api/v1{path}" for path in document()["paths"] if "{" not in path and path != "/trace"]
    paths += ["/api/v1/trace?ref=order:42", f"/api/v1/jobs/{jobs['done']}"]
    for path in paths:
        found = await ask(app, path)
        assert found.status == 200, (path, found.text)
        assert '"card"' not in found.text
        assert '"secret"' not in found.text
    assert "scrape_success" in (told := (await ask(app, "/metrics")).text)
    assert re.findall(r"jobrunner_scrape_success{.*} 0", told) == []
    app.state.reader.close()


def test_nothing_but_the_views_is_readable(reader: str, jobs: dict[str, int]) -> None:
    with psycopg.connect(reader, autocommit=True) as own:
        for table in ("jobs", "finished_jobs", "job_results", "attempts", "audit"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(f"select * from jobrunner.{table}".encode())
        results = own.execute("select count(*), count(result) from jobrunner.v_job").fetchone()

    assert results is not None
    assert results[0] == len(jobs)
    assert results[1] == 0


def test_every_question_for_psql_is_answered_from_the_views(reader: str, jobs: dict[str, int]) -> None:
    from jobrunner.store.queries import names, text

    with psycopg.connect(reader, autocommit=True) as own:
        for path in names("ops"):
            own.execute(text(path))
