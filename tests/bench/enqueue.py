"""bin/bench enqueue: what it costs to write a job, one at a time and many at once (DESIGN §8, row 2)."""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from rich.table import Table

from tests.bench import noop
from tests.bench.contenders import ENQUEUERS, bare_sql
from tests.bench.report import Report, count
from tests.bench.rounds import Row, take_turns
from tests.bench.server import Server, server

SUMMARY = "one enqueue beside the bare INSERT of an equal row; enqueue in bulk beside the peers"

BUDGET_ONE, BUDGET_BULK = 1.3, 1.0
HOW = (
    "begin, one statement, commit, in turn with the other side on the same psycopg connection; app.enqueue(conn, "
    "noop.job(n)) and an INSERT of the same columns with Jsonb arguments, returning id; µs are the medians of a round"
)
INSERT = """
insert into jobrunner.jobs (queue, task, version, priority, max_attempts, args, headers)
values (%s, %s, %s, %s, %s, %s, %s)
returning id
"""
Connection = psycopg.Connection[tuple[Any, ...]]


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --jobs, --singles and --runs."""
    parser.add_argument("--jobs", type=count, default=100_000, help="jobs of a bulk enqueue (100000)")
    parser.add_argument("--singles", type=count, default=1_000, help="single enqueues of a round (1000)")
    parser.add_argument("--runs", type=count, default=5, help="rounds of both; medians count (5)")


def run(chosen: argparse.Namespace) -> Report:
    """Measures both ways in."""
    with server() as postgres:
        singles = _singles(postgres, chosen.singles, chosen.runs)
        rows = take_turns(postgres, list(ENQUEUERS.values()), jobs=chosen.jobs, runs=chosen.runs)
    ratios = [ours / bare for ours, bare in singles]
    bulk = _bulk_ratios(rows)
    one: dict[str, object] = {
        "enqueue_us": round(median(ours for ours, _ in singles), 1),
        "insert_us": round(median(bare for _, bare in singles), 1),
        "ratio": round(median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "how": HOW,
    }
    data: dict[str, object] = {"one": one, "bulk": {row.contender.name: row.data() for row in rows}}
    if bulk:
        data["bulk_ratio"] = round(median(bulk), 3)
    return Report(data, _table(one, rows, bulk))


def _singles(postgres: Server, jobs: int, runs: int) -> list[tuple[float, float]]:
    """The median µs of an enqueue and of an insert, for each round."""
    with postgres.database("bench") as database:
        bare_sql.fill(database, 0)
        with psycopg.connect(database.dsn) as conn:
            _round(conn, jobs // 10 + 1)
            return [_round(conn, jobs) for _ in range(runs)]


def _round(conn: Connection, jobs: int) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for n in range(jobs):
        for write, spent in zip((_enqueue, _insert), times, strict=True):
            began = perf_counter()
            write(conn, n)
            conn.commit()
            spent.append(1e6 * (perf_counter() - began))
    return median(times[0]), median(times[1])


def _enqueue(conn: Connection, n: int) -> None:
    noop.app.enqueue(conn, noop.noop.job(n))


def _insert(conn: Connection, n: int) -> None:
    conn.execute(INSERT, ["default", "bench.noop", 1, 0, 10, Jsonb({"n": n}), Jsonb({})]).fetchone()


def _bulk_ratios(rows: list[Row]) -> list[float]:
    """Ours to the best peer's, for each round."""
    ours, *peers = rows
    able = [row.rates for row in peers if row.rates]
    return [rate / max(theirs) for rate, *theirs in zip(ours.rates, *able, strict=True)] if able else []


def _table(one: dict[str, object], rows: list[Row], bulk: list[float]) -> Table:
    table = Table("", "", "spread", "budget", "version", title="enqueue")
    table.add_row("one, in a transaction", f"{one['enqueue_us']} µs")
    table.add_row("bare INSERT", f"{one['insert_us']} µs")
    table.add_row("ratio", f"{one['ratio']}", f"{one['spread']}", f"≤ {BUDGET_ONE}")
    for row in rows:
        if row.per_second is None:
            table.add_row(f"bulk: {row.contender.name}", "–", "", "", row.why)
        else:
            spread = f"{min(row.rates):,.0f}–{max(row.rates):,.0f}"
            table.add_row(f"bulk: {row.contender.name}", f"{row.per_second:,} jobs/s", spread, "", row.version)
    if bulk:
        table.add_row(
            "bulk: ratio to the best", f"{median(bulk):.2f}", f"{min(bulk):.2f}–{max(bulk):.2f}", f"≥ {BUDGET_BULK:g}"
        )
    return table
