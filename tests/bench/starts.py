"""How long after its commit a job starts on an idle worker: a writer here, a worker in a process of its own.

Both read the machine's monotonic clock: Python's time.monotonic and Node's process.hrtime are the same one on Linux.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.bench import peers
from tests.bench.server import Database

WARM_UP = 10
"""Jobs that go before and do not count."""
REST = 1.0
"""Seconds until a worker has nothing to do but wait."""


@dataclass(frozen=True, slots=True)
class Starter:
    """One system whose worker can be woken."""

    name: str
    how: str
    """Exactly what is run, in words."""
    install: Callable[[], str]
    """Make it ready to run and return its version; nothing but this may raise `Unavailable`."""
    prepare: Callable[[Database], None]
    """Make an empty database ready."""
    command: Callable[[int], Sequence[object]]
    """A worker that says "ready", runs that many jobs, and prints the number and the instant of the start of each."""
    write: Callable[[psycopg.Connection[Any], int], None]
    """Write the job of that number in the caller's transaction."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of writer."""

    name: str
    hold: float
    """Seconds that its transactions stay open, at the most."""
    budget: tuple[float, float]
    """Milliseconds of jobrunner: p50, p99."""
    share: int
    """One job where others have this many: those are slow."""
    notify: bool = True
    gap: float = 0.08
    """Seconds between a transaction and the next, at the most, above 20 ms."""


def waits(database: Database, starter: Starter, case: Case, jobs: int) -> list[float]:
    """The milliseconds from the return of each commit to the first line of its handler."""
    starter.prepare(database)
    command = [str(part) for part in starter.command(jobs + WARM_UP)]
    environment = {**os.environ, **database.environment}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            if not any(line == "ready\n" for line in worker.stdout):  # it may have more to say before
                raise RuntimeError(f"the worker of {starter.name} did not start")
            time.sleep(REST)
            committed = _written(database, starter, case, jobs + WARM_UP)
            printed, _ = worker.communicate(timeout=peers.LIMIT)
        finally:
            worker.kill()
    started = dict(json.loads(printed.splitlines()[-1]))
    return [1e3 * (started[n] - at) for n, at in committed][WARM_UP:]


def _written(database: Database, starter: Starter, case: Case, jobs: int) -> list[tuple[int, float]]:
    """Number and instant of each commit."""
    dice = random.Random(1)
    committed = []
    with database.connect() as conn:
        if not case.notify:
            conn.execute("set jobrunner.notify = off")
        for n in range(jobs):
            with conn.transaction():
                starter.write(conn, n)
                time.sleep(case.hold * dice.random())
            committed.append((n, time.monotonic()))
            time.sleep(0.02 + case.gap * dice.random())
    return committed
