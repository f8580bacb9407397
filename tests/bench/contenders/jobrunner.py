"""jobrunner: a Runner in a process of its own."""

from __future__ import annotations

import sys
from typing import Any

import psycopg

from tests.bench import noop, peers
from tests.bench.contenders import bare_sql
from tests.bench.rounds import Contender
from tests.bench.server import Database
from tests.bench.starts import Starter

NAME = "jobrunner"
SLOTS = 10


def command(*arguments: str) -> list[str]:
    """A process of tests/bench/noop.py."""
    return [sys.executable, "-m", "tests.bench.noop", *arguments]


def drain(database: Database, jobs: int, slots: int = SLOTS) -> float:
    """Runs what waits to its end; the seconds that the newest *jobs* took."""
    peers.call(command("drain", str(slots)), database)
    return bare_sql.took(database, jobs)


CONTENDER = Contender(
    name=NAME,
    how=(
        f"Runner(slots={SLOTS}) of one process, async handler, arguments validated, every other setting as it comes; "
        "history kept; from the first started_at to the last finished_at in finished_jobs"
    ),
    install=lambda: "this checkout",
    prepare=bare_sql.fill,
    measure=drain,
)


def busy(slots: int, milliseconds: int) -> Contender:
    """So many slots for handlers that take so long."""
    return Contender(
        name=NAME,
        how="Runner(slots=slots), handlers in asyncio.sleep; times as in the drain",
        install=lambda: "this checkout",
        prepare=lambda database, jobs: bare_sql.fill(database, jobs, task=noop.nap.name, n=milliseconds),
        measure=lambda database, jobs: drain(database, jobs, slots),
    )


def _enqueue(database: Database, jobs: int) -> float:
    seconds = float(peers.call(command("enqueue", str(jobs)), database))
    database.expect("jobrunner.jobs", jobs)
    return seconds


ENQUEUE = Contender(
    name=NAME,
    how=(
        "app.enqueue_many(conn, (noop.job(n) for n in numbers)) and commit on a psycopg connection: each call bound and "
        "validated against the task's signature, one transaction"
    ),
    install=lambda: "this checkout",
    prepare=lambda database, jobs: bare_sql.fill(database, 0),
    measure=_enqueue,
)


def _write(conn: psycopg.Connection[Any], n: int) -> None:
    noop.app.enqueue(conn, noop.stamp.job(n))


START = Starter(
    name=NAME,
    how="app.enqueue; Runner(slots=10) with every setting as it comes",
    install=lambda: "this checkout",
    prepare=lambda database: bare_sql.fill(database, 0),
    command=lambda jobs: command("stamps", str(jobs)),
    write=_write,
)
