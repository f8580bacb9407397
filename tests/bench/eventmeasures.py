"""What bin/bench events measures, one function each: takes a fresh database, returns events a second, or milliseconds."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import LiteralString

from psycopg import AsyncConnection, IsolationLevel

from jobrunner.store import events
from jobrunner.store.migrate import migrate
from jobrunner.worker.sequencer import BATCH
from tests.bench import eventful, peers
from tests.bench.report import say
from tests.bench.server import Database

WARM_UP = 10
CHUNK, LEAST = 50_000, 3 * BATCH
"""Events that are published at once before a runner: at the most, and so many that they take several steps."""
ELSEWHERE = "elsewhere"
"""A queue without deliveries: a runner that reads it only moves events."""


def prepare(database: Database) -> None:
    """The schema."""
    with database.connect() as conn:
        migrate(conn)


def sequence(database: Database, number: int, subscriptions: int, *, ordered: bool = False) -> float:
    """Events a second of a sequencer's steps that find *number* in the outbox; nothing else runs."""
    return number / asyncio.run(_sequenced(database, number, subscriptions, ordered=ordered))


async def _sequenced(database: Database, number: int, subscriptions: int, *, ordered: bool) -> float:
    conn = await AsyncConnection.connect(database.dsn, autocommit=True, prepare_threshold=None)
    async with conn:
        for one in eventful.app_with(subscriptions, ordered=ordered).subscriptions:
            await events.subscribe(conn, one.declaration)
        eventful.publish(database, number)
        database.settle_down()
        moved = delivered = 0
        began = perf_counter()
        while moved < number:
            step = await events.sequence(conn, BATCH, 0)
            if step.moved <= 0:
                raise RuntimeError(f"only {moved} of {number} events were moved")
            moved, delivered = moved + step.moved, delivered + step.delivered
        took = perf_counter() - began
    if delivered != number * subscriptions:
        raise RuntimeError(f"{number} events for {subscriptions} subscriptions had {delivered} deliveries")
    return took


def handle(database: Database, number: int, subscriptions: int) -> float:
    """Events a second from the first publish to the last delivery's end, published in bulk beside a runner that was idle."""
    with _runner(database, str(subscriptions)), database.connect() as conn:
        began = conn.execute("select clock_timestamp()").fetchone()
        app = eventful.app_with(0)
        app.publish_many(conn, (eventful.happened(n) for n in range(number)))
        finished = "select count(*), extract(epoch from max(finished_at) - %s) from jobrunner.finished_jobs"
        row: tuple[int, float] = (0, 0.0)
        deadline = time.monotonic() + peers.LIMIT
        while row[0] < number * subscriptions:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{row[0]} of {number * subscriptions} deliveries are handled")
            time.sleep(0.2)
            row = conn.execute(finished, began).fetchone() or row
    return number / float(row[1])


def wait(database: Database, number: int, *, notify: bool) -> list[float]:
    """Milliseconds from the return of each publishing commit to the first line of the handler, on an idle runner."""
    command = [sys.executable, "-m", "tests.bench.eventful", "stamps", str(number + WARM_UP)]
    environment = {**os.environ, **database.environment}
    dice, committed, app = random.Random(1), [], eventful.app_with(0)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as runner:
        try:
            with database.connect() as conn:
                if not notify:
                    conn.execute("set jobrunner.notify = off")
                _until_registered(database)
                time.sleep(1)  # until it has nothing to do but wait
                for n in range(number + WARM_UP):
                    with conn.transaction():
                        app.publish(conn, eventful.happened(n))
                    committed.append((n, time.monotonic()))
                    time.sleep(0.02 + 0.08 * dice.random())
            printed, _ = runner.communicate(timeout=peers.LIMIT)
        finally:
            runner.kill()
    started = dict(json.loads(printed))
    return [1e3 * (started[n] - at) for n, at in committed][WARM_UP:]


def disturb(database: Database, how: str, before: int, chunk: int, runs: int) -> list[float]:
    """Events a second in *runs* chunks after *before* events, with one subscription and a whole runner; *how* as in `HOLDERS`."""
    rates: list[float] = []
    with _runner(database, "1", ELSEWHERE), _held(database, how):
        for number in range(-(-before // chunk) + runs):
            eventful.publish(database, chunk, first=number * chunk)
            rates.append(_recorded(database, number * chunk, chunk))
            say(f"{how}, after {number * chunk:,} events: {rates[-1]:,.0f} events/s")
    return rates[-runs:]


HOLDERS: dict[str, LiteralString] = {
    "undisturbed": "",
    "pinned snapshot": "select count(*) from jobrunner.events",
    "open write transaction": "insert into jobrunner.audit (actor, action, target) values ('bench', 'hold', 'it')",
}
"""What a session does first in a transaction that it then keeps open."""


@contextmanager
def _held(database: Database, how: str) -> Iterator[None]:
    with database.connect() as conn:
        conn.set_autocommit(False)
        if how == "pinned snapshot":
            conn.isolation_level = IsolationLevel.REPEATABLE_READ
        if HOLDERS[how]:
            conn.execute(HOLDERS[how])
        yield
        conn.rollback()


def _recorded(database: Database, after: int, number: int) -> float:
    """Events a second by when their steps began: all but the last step's, from the first step to the last."""
    steps: list[tuple[float, int]] = []
    deadline = time.monotonic() + peers.LIMIT
    with database.connect() as conn:
        while sum(moved for _, moved in steps) < number:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the steps behind {after} moved {steps} of {number} events")
            time.sleep(0.2)
            steps = conn.execute(
                """
                select extract(epoch from e.recorded_at)::float8, count(*)
                from jobrunner.events e
                where e.position > %s
                group by e.recorded_at
                order by e.recorded_at
                """,
                [after],
            ).fetchall()
    return (number - steps[-1][1]) / (steps[-1][0] - steps[0][0])


@contextmanager
def _runner(database: Database, *arguments: str) -> Iterator[None]:
    """A process with a runner, inside the block."""
    command = [sys.executable, "-m", "tests.bench.eventful", "serve", *arguments]
    environment = {**os.environ, **database.environment}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True) as runner:
        try:
            _until_registered(database)
            yield
            runner.communicate("", timeout=peers.LIMIT)
        finally:
            runner.kill()


def _until_registered(database: Database) -> None:
    with database.connect() as conn:
        while conn.execute("select from jobrunner.runners").fetchone() is None:
            time.sleep(0.02)
