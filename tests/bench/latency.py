"""bin/bench latency: how long after its commit a job starts on an idle runner (DESIGN §8, row 3)."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import time
from dataclasses import dataclass
from statistics import quantiles

from rich.table import Table

from tests.bench import noop, peers
from tests.bench.contenders import bare_sql, jobrunner
from tests.bench.report import Report, count, say
from tests.bench.server import Database, server

SUMMARY = "from commit to the start of the handler on an idle runner, for transactions of 0, 20 and 300 ms"

WARM_UP = 10
HOW = (
    "one process enqueues one job in each transaction, which it holds open for up to the named time (uniformly random), "
    "20 to 100 ms apart; another runs Runner(slots=10); from the return of the commit to the first line of the handler, on "
    "the machine's monotonic clock; poll only: jobrunner.notify is off in the writer's session"
)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of writer."""

    name: str
    hold: float
    """Seconds that its transactions stay open, at the most."""
    budget: tuple[float, float]
    """Milliseconds: p50, p99."""
    share: int
    """One job where others have this many: those are slow."""
    notify: bool = True


CASES = (
    Case("0 ms", 0.0, (3, 8), 1),
    Case("20 ms", 0.02, (3, 8), 1),
    Case("300 ms", 0.3, (3, 12), 2),
    Case("poll only", 0.0, (1300, 1300), 8, notify=False),
)


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs."""
    parser.add_argument("--jobs", type=count, default=400, help="jobs of each kind; slow kinds have a share (400)")


def run(chosen: argparse.Namespace) -> Report:
    """Measures each kind of writer on a runner of its own."""
    data: dict[str, object] = {}
    table = Table(
        "transactions of", "jobs", "p50", "p99", "max", "budget", title="ms from commit to start", caption=HOW
    )
    with server() as postgres:
        for case in CASES:
            with postgres.database("bench") as database:
                bare_sql.fill(database, 0)
                waits = _measured(database, case, max(2, chosen.jobs // case.share))
            p50, p99 = _percentile(waits, 50), _percentile(waits, 99)
            say(f"{case.name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
            data[case.name] = {"p50_ms": p50, "p99_ms": p99, "max_ms": round(max(waits), 3), "jobs": len(waits)}
            budget = f"≤ {case.budget[0]:g}, {case.budget[1]:g}"
            table.add_row(case.name, str(len(waits)), f"{p50:.2f}", f"{p99:.2f}", f"{max(waits):.2f}", budget)
    return Report({**data, "how": HOW}, table)


def _percentile(waits: list[float], rank: int) -> float:
    return round(quantiles(waits, n=100, method="inclusive")[rank - 1], 3)


def _measured(database: Database, case: Case, jobs: int) -> list[float]:
    command = jobrunner.command("stamps", str(jobs + WARM_UP))
    environment = {**os.environ, **database.environment}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as runner:
        try:
            committed = _written(database, case, jobs + WARM_UP)
            printed, _ = runner.communicate(timeout=peers.LIMIT)
        finally:
            runner.kill()
    started = dict(json.loads(printed))
    return [1e3 * (started[n] - at) for n, at in committed][WARM_UP:]


def _written(database: Database, case: Case, jobs: int) -> list[tuple[int, float]]:
    """Number and instant of each commit."""
    dice = random.Random(1)
    committed = []
    with database.connect() as conn:
        if not case.notify:
            conn.execute("set jobrunner.notify = off")
        while conn.execute("select from jobrunner.runners").fetchone() is None:
            time.sleep(0.02)
        time.sleep(1)  # until it has nothing to do but wait
        for n in range(jobs):
            with conn.transaction():
                noop.app.enqueue(conn, noop.stamp.job(n))
                time.sleep(case.hold * dice.random())
            committed.append((n, time.monotonic()))
            time.sleep(0.02 + 0.08 * dice.random())
    return committed
