"""bin/bench events: how fast events get into the log and to their subscribers, and how soon (DESIGN §8, row 6)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

from rich.table import Table

from tests.bench import eventful, eventmeasures
from tests.bench.contenders import bare_log
from tests.bench.eventmeasures import CHUNK, HOLDERS, LEAST
from tests.bench.report import Report, count, say
from tests.bench.server import Database, Server, server

SUMMARY = "the sequencer with 0, 1, 3 and 10 subscriptions beside plain SQL; publish to handler, and all the way"

SUBSCRIPTIONS = (0, 1, 3, 10)
HANDLED = (1, 3)
BUDGETS = {1: 25_000, 3: 12_000}
"""Events a second of the sequencer, unordered, by subscriptions."""
BUDGET_MS = 10
HOW = {
    "sequencer": (
        "events of one type with 1,000 keys and a payload of two fields wait in the outbox; jobrunner.store.events.sequence "
        "with the sequencer's batch on an async connection until it is empty, from the first step to the end of the last; "
        "nobody claims"
    ),
    "raw_sql": (
        "the same moves in one plain statement a batch on tables made LIKE ours: delete returning, insert into the log, k "
        "deliveries and their links; no functions, no lock, no look at subscriptions; ratio: ours to that, median of the rounds"
    ),
    "end_to_end": (
        "app.publish_many of event objects in commits of 5,000 beside an idle Runner(slots=10) of another process with async "
        "handlers that do nothing: from the first statement to the last finished_at"
    ),
    "latency": (
        "app.publish, one event a transaction, 20 to 100 ms apart; from the return of the commit to the first line of the "
        "handler in another process; poll only: jobrunner.notify is off in the publisher's session"
    ),
    "disturbed": (
        "a whole Runner with one subscription that reads another queue; chunks are published in one commit each; by "
        "recorded_at, after so many events; a REPEATABLE READ snapshot from before the first, or a transaction that has "
        "written and stays open"
    ),
}


def options(parser: argparse.ArgumentParser) -> None:
    """Adds --events, --runs, --handled, --waits and --before."""
    parser.add_argument("--events", type=count, default=50_000, help="events of a sequencer's run (50000)")
    parser.add_argument("--runs", type=count, default=5, help="runs of each; medians count (5)")
    parser.add_argument("--handled", type=count, default=30_000, help="events of an end to end run (30000)")
    parser.add_argument(
        "--waits", type=count, default=300, help="events of a latency run; poll only has an eighth (300)"
    )
    parser.add_argument(
        "--before", type=count, default=300_000, help="events that go before under a pinned snapshot (300000)"
    )


def run(chosen: argparse.Namespace) -> Report:
    """Measures all of it on one server; what is compared in turn."""
    with server() as postgres:
        rates = _sequenced(postgres, chosen.events, chosen.runs)
        handled = _handled(postgres, chosen.handled, chosen.runs)
        waits = {
            "idle": _waited(postgres, chosen.waits, notify=True),
            "poll only": _waited(postgres, max(2, chosen.waits // 8), notify=False),
        }
        disturbed = _disturbed(postgres, chosen.before, min(CHUNK, max(LEAST, chosen.events)), chosen.runs)
    raw = {str(k): _row(rates["raw", k]) for k in SUBSCRIPTIONS}
    data: dict[str, object] = {
        str(k): _row(rates["plain", k], deliveries=k, against=rates["raw", k]) for k in SUBSCRIPTIONS
    }
    data |= {
        "ordered": {str(k): _row(rates["ordered", k], deliveries=k) for k in SUBSCRIPTIONS if k},
        "raw_sql": raw,
        "end_to_end": {str(k): _row(handled[k], deliveries=k) for k in HANDLED},
        "latency": waits,
        "disturbed": {how: _row(rates) for how, rates in disturbed.items()},
        "events": chosen.events,
        "how": HOW,
    }
    return Report(data, _table(data, f"events, median of {chosen.runs}, PostgreSQL {postgres.version}"))


def _fresh(postgres: Server, measure: Callable[[Database], float]) -> float:
    with postgres.database("bench") as database:
        eventmeasures.prepare(database)
        return measure(database)


def _sequenced(postgres: Server, number: int, runs: int) -> dict[tuple[str, int], list[float]]:
    """Events a second by what and how many subscriptions, in turn; "raw" is the plain SQL."""

    def raw(database: Database, k: int) -> float:
        eventful.publish(database, number)
        return number / bare_log.move(database, number, k)

    measures: dict[tuple[str, int], Callable[[Database], float]] = {}
    for k in SUBSCRIPTIONS:
        measures["plain", k] = lambda database, k=k: eventmeasures.sequence(database, number, k)  # type: ignore[misc]
        measures["raw", k] = lambda database, k=k: raw(database, k)  # type: ignore[misc]
        if k:
            measures["ordered", k] = lambda database, k=k: eventmeasures.sequence(database, number, k, ordered=True)  # type: ignore[misc]
    rates: dict[tuple[str, int], list[float]] = {name: [] for name in measures}
    for turn in range(runs):
        for (what, k), measure in measures.items():
            rates[what, k].append(_fresh(postgres, measure))
            say(f"run {turn + 1} of {runs}: {what}, {k} subscriptions: {rates[what, k][-1]:,.0f} events/s")
    return rates


def _handled(postgres: Server, number: int, runs: int) -> dict[int, list[float]]:
    rates: dict[int, list[float]] = {k: [] for k in HANDLED}
    for turn in range(runs):
        for k, found in rates.items():
            found.append(_fresh(postgres, lambda database, k=k: eventmeasures.handle(database, number, k)))  # type: ignore[misc]
            say(f"run {turn + 1} of {runs}: end to end, {k} subscriptions: {found[-1]:,.0f} events/s")
    return rates


def _waited(postgres: Server, number: int, *, notify: bool) -> dict[str, float]:
    with postgres.database("bench") as database:
        eventmeasures.prepare(database)
        waits = eventmeasures.wait(database, number, notify=notify)
    shares = quantiles(waits, n=100, method="inclusive")
    say(f"{'idle' if notify else 'poll only'}: p50 {shares[49]:.2f} ms, p99 {shares[98]:.2f} ms")
    return {
        "p50_ms": round(shares[49], 3),
        "p99_ms": round(shares[98], 3),
        "max_ms": round(max(waits), 3),
        "events": len(waits),
    }


def _disturbed(postgres: Server, before: int, chunk: int, runs: int) -> dict[str, list[float]]:
    """One after another: an open transaction that has written holds back the snapshots of every database of a server."""
    rates = {}
    for how in HOLDERS:
        with postgres.database("bench") as database:
            eventmeasures.prepare(database)
            rates[how] = eventmeasures.disturb(database, how, before, chunk, runs)
    return rates


def _row(rates: list[float], *, deliveries: int | None = None, against: list[float] | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"events_per_second": round(median(rates)), "spread": [round(min(rates)), round(max(rates))]}
    if deliveries is not None:
        row["deliveries_per_second"] = round(median(rates) * deliveries)
    if against is not None:
        row["ratio"] = round(median(ours / theirs for ours, theirs in zip(rates, against, strict=True)), 3)
    return row


def _table(data: dict[str, Any], title: str) -> Table:
    table = Table(title=title, caption="ratio: to the same moves in plain SQL, median of the rounds")
    table.add_column("", no_wrap=True)
    for heading in ("events/s", "spread", "ratio", "budget"):
        table.add_column(heading, justify="right", no_wrap=True)

    def add(name: str, row: dict[str, Any], budget: int | None = None) -> None:
        least, most = row["spread"]
        shown = f"{row['events_per_second']:,}"
        if budget:
            shown = f"[{'green' if row['events_per_second'] >= budget else 'red'}]{shown}[/]"
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        table.add_row(name, shown, f"{least:,}–{most:,}", ratio, f"≥ {budget:,}" if budget else "")

    for k in SUBSCRIPTIONS:
        add(f"{k} subscriptions", data[str(k)], BUDGETS.get(k))
        add("  plain SQL", data["raw_sql"][str(k)])
        if k:
            add("  ordered", data["ordered"][str(k)])
    for k in HANDLED:
        add(f"published and handled by {k}", data["end_to_end"][str(k)])
    for how, row in data["disturbed"].items():
        add(f"a runner, {how}", row)
    for name, waits in data["latency"].items():
        budget = f"p50 ≤ {BUDGET_MS} ms" if name == "idle" else ""
        table.add_row(
            f"publish to handler, {name}", f"{waits['p50_ms']:.2f} ms", f"p99 {waits['p99_ms']:.2f} ms", "", budget
        )
    return table
