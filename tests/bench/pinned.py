"""bin/bench pinned: whether somebody's old snapshot slows the claim down (DESIGN §8, row 4).

Two databases side by side, one of them pinned, take turns: so whatever else the machine does disturbs both.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from psycopg import IsolationLevel
from rich.table import Table

from tests.bench.contenders import bare_sql, jobrunner
from tests.bench.report import Report, count, say
from tests.bench.server import Database, server

SUMMARY = "the rate after 1,000,000 jobs went through under a pinned snapshot, beside the same without"

BUDGET = 0.9
CHUNK = 100_000
"""Jobs that are inserted and drained at a time on the way; the queue is empty in between."""

HOW = (
    "one REPEATABLE READ transaction holds its snapshot from before the first job to the end; jobs go through in chunks, "
    "each inserted at once and drained by a new Runner(slots=10) process, in turn with an unpinned database of the same "
    "server; rates are those of the chunks after --jobs, first started_at to last finished_at; ratio: median over the runs"
)


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs and --runs."""
    parser.add_argument("--jobs", type=count, default=1_000_000, help="jobs that go through before (1000000)")
    parser.add_argument("--runs", type=count, default=5, help="measured chunks after that; the median counts (5)")


def run(chosen: argparse.Namespace) -> Report:
    """Sends the jobs through both databases and measures what comes after them."""
    chunk = min(CHUNK, chosen.jobs)
    pinned, unpinned = [], []
    with server() as postgres, postgres.database("pinned") as old, postgres.database("unpinned") as young:
        bare_sql.fill(old, 0)
        bare_sql.fill(young, 0)
        with _pin(old):
            for number in range(-(chosen.jobs // chunk), chosen.runs):
                before, after = _drained(old, chunk), _drained(young, chunk)
                if number >= 0:
                    pinned.append(before)
                    unpinned.append(after)
                say(
                    f"{number * chunk + chosen.jobs:,} before: pinned {before:,.0f} jobs/s, unpinned {after:,.0f} jobs/s"
                )
    ratios = [before / after for before, after in zip(pinned, unpinned, strict=True)]
    data: dict[str, object] = {
        "pinned": round(median(pinned)),
        "unpinned": round(median(unpinned)),
        "ratio": round(median(ratios), 3),
        "spread": {
            "pinned": [round(min(pinned)), round(max(pinned))],
            "unpinned": [round(min(unpinned)), round(max(unpinned))],
            "ratio": [round(min(ratios), 3), round(max(ratios), 3)],
        },
        "jobs": chosen.jobs,
        "how": HOW,
    }
    table = Table(
        "", "jobs/s", "spread", title=f"after {chosen.jobs:,} jobs, PostgreSQL {postgres.version}", caption=HOW
    )
    for name, rates in (("pinned", pinned), ("unpinned", unpinned)):
        table.add_row(name, f"{median(rates):,.0f}", f"{min(rates):,.0f}–{max(rates):,.0f}")
    table.add_row(f"ratio (≥ {BUDGET})", f"{median(ratios):.2f}", f"{min(ratios):.2f}–{max(ratios):.2f}")
    return Report(data, table)


@contextmanager
def _pin(database: Database) -> Iterator[None]:
    with database.connect() as conn:
        conn.set_autocommit(False)
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        conn.execute("select count(*) from jobrunner.jobs")  # takes the snapshot
        yield
        conn.rollback()


def _drained(database: Database, jobs: int) -> float:
    bare_sql.insert(database, jobs)
    return jobs / jobrunner.drain(database, jobs)
