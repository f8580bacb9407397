"""bin/bench drain: how fast a queue that is full already is worked off (DESIGN §8, row 1)."""

from __future__ import annotations

import argparse
from statistics import median

from rich.table import Table

from tests.bench.contenders import CONTENDERS
from tests.bench.report import Report, count, names_of
from tests.bench.rounds import Row, take_turns
from tests.bench.server import server

SUMMARY = "200,000 waiting no-op jobs, from the first claim to the last settled row, beside the peers"

BUDGETS = {"graphile-worker": 1.5, "pgqueuer": 3.0, "procrastinate": 100.0, "bare_sql": 0.75}
"""How many times as fast as each of these jobrunner has to be."""


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs, --runs and --only."""
    everyone = ",".join(CONTENDERS)
    parser.add_argument("--jobs", type=count, default=200_000, help="jobs in a run; a slow peer gets a share (200000)")
    parser.add_argument("--runs", type=count, default=5, help="runs of each contender; the median counts (5)")
    parser.add_argument(
        "--only", type=names_of(CONTENDERS), default=everyone, metavar="NAME,…", help=f"who takes part ({everyone})"
    )


def run(chosen: argparse.Namespace) -> Report:
    """Measures the chosen contenders on one server, in turn."""
    with server() as postgres:
        rows = take_turns(postgres, [CONTENDERS[name] for name in chosen.only], jobs=chosen.jobs, runs=chosen.runs)
        table = _table(rows, f"{chosen.jobs:,} no-op jobs, median of {chosen.runs}, PostgreSQL {postgres.version}")
    return Report({row.contender.name: row.data() for row in rows}, table)


def _table(rows: list[Row], title: str) -> Table:
    table = Table(
        title=title,
        caption="ratio: how many times as fast jobrunner is, median of the rounds; budget: how many it should be",
    )
    table.add_column("", no_wrap=True)
    for heading in ("jobs/s", "spread", "ratio", "budget"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("version")
    ours = next((row.rates for row in rows if row.contender.name == "jobrunner"), [])
    for row in rows:
        name, theirs, budget = row.contender.name, row.per_second, BUDGETS.get(row.contender.name)
        if theirs is None:
            table.add_row(name, "–", "", "", "", row.why)
            continue
        ratio = ""
        if ours and budget:
            times = median(ours_then / theirs_then for ours_then, theirs_then in zip(ours, row.rates, strict=True))
            ratio = f"[{'green' if times >= budget else 'red'}]{times:.2f}[/]"
        spread = f"{min(row.rates):,.0f}–{max(row.rates):,.0f}"
        table.add_row(name, f"{theirs:,}", spread, ratio, f"≥ {budget:g}" if budget else "", row.version)
    return table
