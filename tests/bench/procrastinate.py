"""bin/bench procrastinate: one procrastinate app under its own worker on its own tables and on ours, and under our runner."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from importlib.metadata import version
from statistics import median

from rich.table import Table

from tests.bench import peers
from tests.bench.contenders import bare_sql, jobrunner
from tests.bench.contenders import procrastinate as peer
from tests.bench.report import Report, count
from tests.bench.rounds import Contender, Row, take_turns
from tests.bench.server import Database, server

SUMMARY = "200,000 no-op jobs of one procrastinate app: its worker and tables, its worker on ours, jobrunner run"

BUDGETS = {"own_tables": 50.0, "jobrunner_tasks": 0.75}
"""How many times as fast as each of these `jobrunner_runner` has to be: no slower than our own tasks by more than a third."""

CONCURRENCY, SHARE = peer.CONCURRENCY, peer.SHARE


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs and --runs."""
    parser.add_argument(
        "--jobs", type=count, default=200_000, help="jobs in a run; a worker of theirs gets 1/20 (200000)"
    )
    parser.add_argument("--runs", type=count, default=5, help="runs of each; the median counts (5)")


def run(chosen: argparse.Namespace) -> Report:
    """Measures the four on one server, in turn."""
    with server() as postgres:
        rows = take_turns(postgres, CONTENDERS, jobs=chosen.jobs, runs=chosen.runs)
        table = _table(rows, f"{chosen.jobs:,} no-op jobs, median of {chosen.runs}, PostgreSQL {postgres.version}")
    return Report({row.contender.name: row.data() for row in rows}, table)


def _command(*arguments: object) -> list[object]:
    return [sys.executable, "-m", "tests.bench.frontend", *arguments]


def _fill_own(database: Database, jobs: int) -> None:
    with database.connect() as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute(peers.call(_command("schema"), database).encode())
        conn.execute(
            """
            insert into procrastinate_jobs (queue_name, task_name, args)
            select 'default', 'bench.noop', jsonb_build_object('n', n)
            from generate_series(1, %s) n
            """,
            [jobs],
        )


def _drain_own(database: Database, jobs: int) -> float:
    peers.call(_command("own", CONCURRENCY), database)
    return peer.took(database, jobs)


def _drain_ours(database: Database, jobs: int) -> float:
    peers.call(_command("ours", CONCURRENCY), database)
    return bare_sql.took(database, jobs)


def _drain_runner(database: Database, jobs: int) -> float:
    peers.call(_command("runner", jobrunner.SLOTS), database)
    return bare_sql.took(database, jobs)


def _version() -> str:
    return version("procrastinate")


_WORKER = (
    f"run_worker_async(wait=False, concurrency={CONCURRENCY}, listen_notify=False) of one process, pool of 10, asyncio's own "
    f"loop as for all four; 1/{SHARE} of the jobs"
)

CONTENDERS = [
    Contender("own_tables", f"PsycopgConnector, {_WORKER}", _version, _fill_own, _drain_own, SHARE),
    Contender("jobrunner_tables", f"JobrunnerConnector, {_WORKER}", _version, bare_sql.fill, _drain_ours, SHARE),
    Contender(
        "jobrunner_runner",
        f"the same app as `jobrunner run` loads it, Runner(slots={jobrunner.SLOTS}) of one process, the rest as it comes",
        _version,
        bare_sql.fill,
        _drain_runner,
    ),
    replace(jobrunner.CONTENDER, name="jobrunner_tasks"),
]
"""In the order in which they are shown."""


def _table(rows: list[Row], title: str) -> Table:
    table = Table(
        title=title, caption="ratio: how many times as fast jobrunner_runner is, median of the rounds; budget: at least"
    )
    table.add_column("", no_wrap=True)
    for heading in ("jobs/s", "spread", "ratio", "budget"):
        table.add_column(heading, justify="right", no_wrap=True)
    ours = next(row.rates for row in rows if row.contender.name == "jobrunner_runner")
    for row in rows:
        times = median(here / there for here, there in zip(ours, row.rates, strict=True))
        budget = BUDGETS.get(row.contender.name)
        colour = "" if budget is None else "[green]" if times >= budget else "[red]"
        spread = f"{min(row.rates):,.0f}–{max(row.rates):,.0f}"
        shown = "" if row.contender.name == "jobrunner_runner" else f"{colour}{times:.2f}"
        table.add_row(row.contender.name, f"{row.per_second:,}", spread, shown, f"≥ {budget:g}" if budget else "")
    return table
