"""bin/bench handlers: whether slots are kept busy by handlers that take 1, 10 and 100 ms, beside the peers."""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import median

from rich.table import Table

from tests.bench.contenders import BUSY
from tests.bench.report import Report, count, names_of, say
from tests.bench.rounds import Contender, Row, take_turns
from tests.bench.server import server

SUMMARY = "async handlers that take 1, 10 and 100 ms at 50 and 500 slots: jobs/s beside slots/duration and the peers"

CASES = ((1, 50), (1, 500), (10, 50), (10, 500), (100, 50), (100, 500))
"""Milliseconds and slots."""
MOST = 15_000
"""Jobs a second that a run is made for, where the slots would allow more."""
ROUNDS = 4
"""Times that each slot of a slow contender has to run a job, at the least: else its first and its last round count too much."""
HOW = (
    "ready jobs of one task, drained by one process; ideal: slots / duration, which no clock of 1 ms and no 2 cores can give "
    "beyond some 20,000/s; a run has --seconds of the ideal's work, of 15,000 jobs/s at the most; slow contenders get a share"
)


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --seconds, --runs and --only."""
    everyone = ",".join(BUSY)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a run if it were ideal (1.5)")
    parser.add_argument("--runs", type=count, default=3, help="runs of each contender; the median counts (3)")
    parser.add_argument(
        "--only", type=names_of(BUSY), default=everyone, metavar="NAME,…", help=f"who takes part ({everyone})"
    )


def run(chosen: argparse.Namespace) -> Report:
    """Measures the chosen contenders on one server, in turn in each case."""
    data: dict[str, object] = {"how": HOW}
    table = Table(
        title=f"handlers that take time, median of {chosen.runs}",
        caption="ratio: how many times as fast jobrunner is, median of the rounds",
    )
    table.add_column("", no_wrap=True)
    for heading in ("jobs/s", "spread", "of ideal", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    with server() as postgres:
        for milliseconds, slots in CASES:
            ideal = slots * 1000 / milliseconds
            jobs = max(1, round(min(ideal, MOST) * chosen.seconds))
            takers = [_shared(BUSY[name](slots, milliseconds), jobs, slots) for name in chosen.only]
            case = f"{milliseconds} ms, {slots} slots"
            say(f"{case}: {jobs:,} jobs")
            rows = take_turns(postgres, takers, jobs=jobs, runs=chosen.runs, warm_up=0)
            data[case] = {
                "ideal_per_second": round(ideal),
                "jobs": jobs,
                **{row.contender.name: _data(row, rows[0], ideal) for row in rows},
            }
            table.add_row(f"[bold]{case}[/]", f"{ideal:,.0f}", "", "100%")
            for row in rows:
                table.add_row(f"  {row.contender.name}", *_cells(row, rows[0], ideal))
            table.add_section()
    return Report(data, table)


def _shared(contender: Contender, jobs: int, slots: int) -> Contender:
    return replace(contender, share=max(1, min(contender.share, jobs // (ROUNDS * slots))))


def _ratio(row: Row, ours: Row) -> float | None:
    """How many times as fast jobrunner is, where it is the first and this is another."""
    if row is ours or ours.contender.name != "jobrunner" or not row.rates:
        return None
    return round(median(mine / theirs for mine, theirs in zip(ours.rates, row.rates, strict=True)), 3)


def _data(row: Row, ours: Row, ideal: float) -> dict[str, object]:
    found = row.data()
    if row.rates:
        found["of_ideal"] = round(median(row.rates) / ideal, 3)
    return found if (ratio := _ratio(row, ours)) is None else {**found, "ratio": ratio}


def _cells(row: Row, ours: Row, ideal: float) -> tuple[str, str, str, str]:
    if not row.rates:
        return "–", row.why or "", "", ""
    ratio = _ratio(row, ours)
    return (
        f"{row.per_second:,}",
        f"{min(row.rates):,.0f}–{max(row.rates):,.0f}",
        f"{median(row.rates) / ideal:.0%}",
        "" if ratio is None else f"{ratio:.2f}",
    )
