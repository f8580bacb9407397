"""bin/bench memory: what a runner's process takes: idle, after a drain, and whether it grows (DESIGN §8, row 7)."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from rich.table import Table

from tests.bench import noop, peers
from tests.bench.contenders import bare_sql
from tests.bench.report import Report, count, say
from tests.bench.server import Database, server

SUMMARY = "resident memory of a runner: idle, after a drain of 200,000, and its growth over minutes of mixed work"

BUDGET_MB = 80
EVERY = 0.25
"""Seconds between the batches of the soak, and between its samples."""
IDLE = 3.0
"""Seconds that a runner gets to come to rest."""
HOW = (
    "VmRSS of the one process of `jobrunner run` with 10 slots, every setting as it comes; peak: VmHWM; soak: a batch of 100 "
    "jobs every 0.25 s (no-op coroutines, one in ten in a thread, one in ten with one of 20 keys, one in fifty fails, is "
    "tried again and is dead); growth: the median of the last quarter of its samples minus that of the second"
)


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs and --minutes."""
    parser.add_argument("--jobs", type=count, default=200_000, help="jobs of the drain (200000)")
    parser.add_argument("--minutes", type=float, default=2.0, help="length of the soak (2)")


def run(chosen: argparse.Namespace) -> Report:
    """One runner through all of it."""
    with server() as postgres, postgres.database("bench") as database:
        bare_sql.fill(database, 0)
        with _runner(database) as pid:
            time.sleep(IDLE)
            idle = _megabytes(pid, "VmRSS")
            say(f"idle: {idle:.1f} MB")
            bare_sql.insert(database, chosen.jobs)
            _until(lambda: _is_empty(database), "the drain did not end")
            time.sleep(IDLE)
            after, peak = _megabytes(pid, "VmRSS"), _megabytes(pid, "VmHWM")
            say(f"after {chosen.jobs:,} jobs: {after:.1f} MB, at most {peak:.1f} MB")
            samples, jobs = _soaked(database, pid, chosen.minutes)
    quarter = max(1, len(samples) // 4)
    growth = median(samples[-quarter:]) - median(samples[quarter : 2 * quarter] or samples)
    data: dict[str, object] = {
        "idle_mb": idle,
        "after_drain_mb": after,
        "peak_mb": peak,
        "soak": {
            "minutes": chosen.minutes,
            "jobs": jobs,
            "first_mb": samples[0],
            "last_mb": samples[-1],
            "most_mb": max(samples),
            "growth_mb": round(growth, 2),
        },
        "jobs": chosen.jobs,
        "how": HOW,
    }
    table = Table("", "MB", "budget", title="resident memory of a runner", caption=HOW)
    table.add_row("idle", f"{idle:.1f}", f"≤ {BUDGET_MB}")
    table.add_row(f"after a drain of {chosen.jobs:,}", f"{after:.1f}")
    table.add_row("at most, until then", f"{peak:.1f}")
    table.add_row(f"soak of {chosen.minutes:g} minutes, {jobs:,} jobs: first", f"{samples[0]:.1f}")
    table.add_row("  last", f"{samples[-1]:.1f}")
    table.add_row("  growth, last quarter to second", f"{growth:+.2f}", "none")
    return Report(data, table)


@contextmanager
def _runner(database: Database) -> Iterator[int]:
    """The process of `jobrunner run`, once it is registered."""
    command = [sys.executable, "-m", "jobrunner", "run", "tests.bench.noop:app"]
    with subprocess.Popen(
        command, env={**os.environ, **database.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _until(lambda: _holds(database, "exists (select from jobrunner.runners)"), "the runner did not start")
            yield process.pid
        finally:
            process.terminate()


def _soaked(database: Database, pid: int, minutes: float) -> tuple[list[float], int]:
    """Samples of the resident memory, and how many jobs were run."""
    samples: list[float] = []
    jobs = 0
    ends = time.monotonic() + 60 * minutes
    with database.connect() as conn:
        while time.monotonic() < ends or not samples:
            began = time.monotonic()
            jobs += len(noop.app.enqueue_many(conn, noop.mixed(jobs, 100)))
            samples.append(_megabytes(pid, "VmRSS"))
            if len(samples) % 240 == 0:
                say(f"{jobs:,} jobs: {samples[-1]:.1f} MB")
            time.sleep(max(0.0, began + EVERY - time.monotonic()))
    _until(lambda: _is_empty(database), "the soak's jobs did not end")
    return samples, jobs


def _is_empty(database: Database) -> bool:
    return _holds(database, "not exists (select from jobrunner.jobs where state <> 'dead')")


def _holds(database: Database, condition: str) -> bool:
    with database.connect() as conn:
        return conn.execute(f"select {condition}").fetchone() == (True,)


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    ends = time.monotonic() + peers.LIMIT
    while not condition():
        if time.monotonic() > ends:
            raise RuntimeError(otherwise)
        time.sleep(0.1)


def _megabytes(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024, 1)
