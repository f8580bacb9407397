"""bin/bench profile: where the microseconds of a drained job go, in the server and in the runner's process."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.table import Table

from tests.bench import peers
from tests.bench.contenders import bare_sql
from tests.bench.contenders.jobrunner import SLOTS, command
from tests.bench.report import Report, count, say
from tests.bench.server import Database, server

SUMMARY = "where the microseconds of a no-op job go: server time by function, the runner's CPU time by part"

HOW = (
    "server: track_functions, time from call to return of each function, what it calls included; runner: its CPU time, "
    "parted by stack samples at every millisecond of it; the three processes (runner, its claim and its settle session) "
    "overlap, so the rows do not add up to the wall time"
)
FUNCTIONS = {"claim_v1": "claim", "finish_v1": "settle", "tick_v1": "look around"}


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs and --runs."""
    parser.add_argument("--jobs", type=count, default=200_000, help="jobs in a run (200000)")
    parser.add_argument("--runs", type=count, default=3, help="runs; the median of each part counts (3)")


def run(chosen: argparse.Namespace) -> Report:
    """Drains, sampled, and asks the server."""
    runs: list[dict[str, float]] = []
    with server() as postgres:
        for number in range(chosen.runs):
            with postgres.database("bench") as database:
                bare_sql.fill(database, chosen.jobs)
                with database.connect() as conn:
                    conn.execute("alter database bench set track_functions = 'pl'")
                database.settle_down()
                runs.append(_measured(database, chosen.jobs))
            say(f"run {number + 1} of {chosen.runs}: {runs[-1]['wall']:.1f} µs a job")
    parts = {name: round(median(parts.get(name, 0.0) for parts in runs), 2) for name in runs[-1]}
    table = Table(title=f"µs a job, {chosen.jobs:,} no-op jobs, median of {chosen.runs}", caption=HOW)
    table.add_column("")
    table.add_column("µs", justify="right")
    for name, microseconds in parts.items():
        table.add_row(name, f"{microseconds:.2f}")
    return Report({"microseconds": parts, "jobs": chosen.jobs, "runs": chosen.runs, "how": HOW}, table)


def _measured(database: Database, jobs: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        report = Path(folder, "parts.json")
        peers.call(command("drain", str(SLOTS), str(report)), database)
        sampled: dict[str, float] = json.loads(report.read_text())
    with database.connect() as conn:
        rows = conn.execute(
            "select funcname, total_time / 1000 from pg_stat_user_functions where schemaname = 'jobrunner'"
        ).fetchall()
    served = dict(rows)
    seconds = {"wall": bare_sql.took(database, jobs)}
    seconds |= {f"server: {part}": served.get(function, 0.0) for function, part in FUNCTIONS.items()}
    seconds["runner: CPU in all"] = sum(sampled.values())
    seconds |= {f"runner: {part}": sampled[part] for part in sorted(sampled, key=sampled.__getitem__, reverse=True)}
    return {part: 1e6 * spent / jobs for part, spent in seconds.items()}
