"""bin/bench latency: how long after its commit a job starts on an idle runner (DESIGN §8, row 3)."""

from __future__ import annotations

import argparse
from statistics import quantiles

from rich.table import Table

from tests.bench.contenders import STARTERS
from tests.bench.report import Report, count, names_of, say
from tests.bench.rounds import Unavailable
from tests.bench.server import server
from tests.bench.starts import Case, waits

SUMMARY = (
    "from commit to the start of the handler on an idle runner, for transactions of 0, 20 and 300 ms, beside peers"
)

HOW = (
    "one process writes one job in each transaction, which it holds open for up to the named time (uniformly random), "
    "20 to 100 ms apart (520 when polled for), the same for all; another runs the worker; from the return of the commit to "
    "the first line of the handler, on the machine's monotonic clock; poll only: jobrunner.notify is off in the writer's "
    "session (the peers cannot be told not to notify)"
)

CASES = (
    Case("0 ms", 0.0, (3, 8), 1),
    Case("20 ms", 0.02, (3, 8), 1),
    Case("300 ms", 0.3, (3, 12), 2),
    Case("poll only", 0.0, (1300, 1300), 8, notify=False, gap=0.5),
)


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs and --only."""
    everyone = ",".join(STARTERS)
    parser.add_argument("--jobs", type=count, default=240, help="jobs of each kind; slow kinds have a share (240)")
    parser.add_argument(
        "--only", type=names_of(STARTERS), default=everyone, metavar="NAME,…", help=f"who takes part ({everyone})"
    )


def run(chosen: argparse.Namespace) -> Report:
    """Measures each kind of writer on an idle worker of each contender, in turn."""
    data: dict[str, dict[str, object]] = {}
    table = Table(
        "", "transactions of", "jobs", "p50", "p99", "max", "budget", title="ms from commit to start", caption=HOW
    )
    able = {}
    for name in chosen.only:
        try:
            data[name] = {"version": STARTERS[name].install(), "how": STARTERS[name].how}
            able[name] = STARTERS[name]
        except Unavailable as problem:
            say(f"{name} cannot take part: {problem}")
            data[name] = {"version": None, "how": STARTERS[name].how, "why": str(problem)}
    with server() as postgres:
        for case in CASES:
            for name, starter in able.items():
                if not case.notify and name != "jobrunner":
                    continue
                with postgres.database("bench") as database:
                    found = waits(database, starter, case, max(2, chosen.jobs // case.share))
                p50, p99, most = _percentile(found, 50), _percentile(found, 99), round(max(found), 3)
                say(f"{case.name}: {name} p50 {p50:.2f} ms, p99 {p99:.2f} ms")
                data[name][case.name] = {"p50_ms": p50, "p99_ms": p99, "max_ms": most, "jobs": len(found)}
                budget = f"≤ {case.budget[0]:g}, {case.budget[1]:g}" if name == "jobrunner" else ""
                table.add_row(name, case.name, str(len(found)), f"{p50:.2f}", f"{p99:.2f}", f"{most:.2f}", budget)
    return Report({**data, "how": HOW}, table)


def _percentile(waits: list[float], rank: int) -> float:
    return round(quantiles(waits, n=100, method="inclusive")[rank - 1], 3)
