"""bin/bench wal: how many bytes of write-ahead log a no-op job costs, by what is done with it (DESIGN §8, row 7)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from rich.table import Table

from jobrunner.worker.settler import BATCH as SETTLE
from jobrunner.worker.slots import BATCH as CLAIM
from tests.bench import noop
from tests.bench.contenders import bare_sql, jobrunner
from tests.bench.report import Report, count, say
from tests.bench.server import Database, Server, server

SUMMARY = (
    "bytes of WAL for a no-op job with a payload of 20 bytes, history kept: enqueue, claim, settle, and a whole runner"
)

BUDGET = 1500
FIRST = 10**13
"""The least argument: {"n":10000000000000} has 20 bytes."""
CHECKPOINTS: dict[str, tuple[str, bool]] = {
    "between checkpoints": ("on", False),
    "a checkpoint before each step": ("on", True),
    "full_page_writes = off": ("off", False),
}
"""full_page_writes, and whether each step has to log the pages whole that it is the first to touch."""
HOW = (
    "pg_current_wal_insert_lsn before and after, / jobs; enqueue: app.enqueue, one job a transaction (bulk: enqueue_many); "
    f"claim and settle: claim_v1 of {CLAIM} and finish_v1 of {SETTLE}, autovacuum off; all: enqueue, claim and settle; a "
    "runner: enqueue_many and the drain by a Runner, autovacuum and whatever else writes included. After a checkpoint the "
    "first change of a page logs it whole: between checkpoints only new pages are met, before each step every old one"
)


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs."""
    parser.add_argument("--jobs", type=count, default=10_000, help="jobs of each measure (10000)")


def run(chosen: argparse.Namespace) -> Report:
    """Measures each step with and without whole pages, then a whole runner."""
    data: dict[str, object] = {}
    table = Table(title=f"bytes of WAL a job, {chosen.jobs:,} jobs", caption=HOW)
    table.add_column("")
    for heading in ("enqueue", "(bulk)", "claim", "settle", "all", "budget"):
        table.add_column(heading, justify="right", no_wrap=True)
    with server() as postgres:
        for name, (full_pages, checkpoints) in CHECKPOINTS.items():
            with _set(postgres, full_page_writes=full_pages, autovacuum="off"), postgres.database("bench") as database:
                bytes_of = _steps(database, chosen.jobs, checkpoints=checkpoints)
            say(f"{name}: {bytes_of['all']:,} bytes a job")
            data[name] = bytes_of
            table.add_row(name, *(f"{spent:,}" for spent in bytes_of.values()), f"≤ {BUDGET:,}")
        with postgres.database("bench") as database:
            whole = _runner(database, chosen.jobs)
        say(f"a runner: {whole:,} bytes a job")
        table.add_row("enqueue_many and a runner", "", "", "", "", f"{whole:,}", f"≤ {BUDGET:,}")
    return Report({**data, "runner": whole, "jobs": chosen.jobs, "how": HOW}, table)


@contextmanager
def _set(postgres: Server, **settings: LiteralString) -> Iterator[None]:
    with psycopg.connect(postgres.dsn, autocommit=True) as admin:
        for name, value in settings.items():
            admin.execute(f"alter system set {name} = {value}")
        admin.execute("select pg_reload_conf()")
        yield
        admin.execute("alter system reset all")
        admin.execute("select pg_reload_conf()")


def _steps(database: Database, jobs: int, *, checkpoints: bool) -> dict[str, int]:
    """Bytes a job of each step; "all" counts the dearer way in."""
    numbers = range(FIRST, FIRST + jobs)
    bare_sql.fill(database, 0)
    with database.connect() as conn:

        def spent(step: Callable[[psycopg.Connection[Any]], object]) -> int:
            if checkpoints:
                conn.execute("checkpoint")
            began = _position(conn)
            step(conn)
            return round((_position(conn) - began) / jobs)

        bulk = spent(lambda conn: noop.app.enqueue_many(conn, (noop.noop.job(n) for n in numbers)))
        bare_sql.register(conn)
        bare_sql.settle(conn, bare_sql.claim(conn))
        one = spent(lambda conn: [noop.app.enqueue(conn, noop.noop.job(n)) for n in numbers])
        batches: list[list[tuple[int, int]]] = []
        claim = spent(lambda conn: batches.extend(bare_sql.claim(conn)))
        settle = spent(lambda conn: bare_sql.settle(conn, batches))
    bare_sql.took(database, jobs)
    return {"enqueue": one, "bulk": bulk, "claim": claim, "settle": settle, "all": one + claim + settle}


def _runner(database: Database, jobs: int) -> int:
    bare_sql.fill(database, 0)
    with database.connect() as conn:
        began = _position(conn)
        noop.app.enqueue_many(conn, (noop.noop.job(n) for n in range(FIRST, FIRST + jobs)))
        jobrunner.drain(database, jobs)
        return round((_position(conn) - began) / jobs)


def _position(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])
