"""The metrics of the database, for Prometheus: read every 5 s at the most, however often it is scraped, each part within 2 s.

A part that fails leaves the others: `scrape_success` says which. The oldest age is the primary alert, so where counting all
jobs takes too long it is taken from the front of each queue, which is cheap at any size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from prometheus_client.core import GaugeMetricFamily, Metric

from jobrunner.errors import JobrunnerError
from jobrunner.ops.attention import condition
from jobrunner.ops.http.database import Reader
from jobrunner.ops.http.metrics import OTHER, SERIES, build_info
from jobrunner.ops.shapes import COUNTED as STATES
from jobrunner.store import event_overview, overview, reports
from jobrunner.store.event_rows import SubscriptionRow
from jobrunner.store.reading import Connection

FRESH = 5.0
"""Seconds."""

_STATEMENT = 2.0

Families: TypeAlias = list[Metric]


async def collect(reader: Reader) -> Families:
    """All families; never raises for the database's sake."""
    found: Families = [build_info()]
    took = GaugeMetricFamily("jobrunner_scrape_duration_seconds", "What reading it took.", labels=["collector"])
    success = GaugeMetricFamily("jobrunner_scrape_success", "1: it could be read.", labels=["collector"])
    for name, part in _PARTS.items():
        began = time.monotonic()
        families = await _read(reader, part)
        if families is None and name == "queues":
            found += await _read(reader, _fronts) or []
        took.add_metric([name], time.monotonic() - began)
        success.add_metric([name], families is not None)
        found += families or []
    return [*found, took, success]


async def _read(reader: Reader, part: Callable[[Connection], Families]) -> Families | None:
    try:
        return await reader.read(part, statement=_STATEMENT)
    except JobrunnerError:
        return None


def _queues(conn: Connection) -> Families:
    rows = overview.list_queues(conn)
    jobs = _gauge("queue_jobs", "Open and dead jobs.", "queue", "state")
    for state in STATES:
        for row in rows[:SERIES]:
            jobs.add_metric([row.name, state], getattr(row, state))
        if rest := rows[SERIES:]:
            jobs.add_metric([OTHER, state], sum(getattr(row, state) for row in rest))
    paused = _gauge("queue_paused", "1: nothing of it is started.", "queue")
    consumers = _gauge("queue_consumers", "Live runners that read it.", "queue")
    for row in rows[:SERIES]:
        paused.add_metric([row.name], row.paused_at is not None)
        consumers.add_metric([row.name], row.runners)
    ages = [(row.name, row.oldest_ready) for row in rows]
    return [jobs, _ages(ages), paused, consumers]


def _fronts(conn: Connection) -> Families:
    return [_ages([(front.queue, front.waited) for front in overview.list_fronts(conn)])]


def _ages(ages: Sequence[tuple[str, timedelta | None]]) -> Metric:
    """Of the first two hundred queues, and the oldest of the rest: nothing old may go unseen."""
    family = _gauge("queue_oldest_ready_age_seconds", "For how long the oldest ready job has been due.", "queue")
    for name, age in ages[:SERIES]:
        family.add_metric([name], _seconds(age))
    if rest := [_seconds(age) for _, age in ages[SERIES:]]:
        family.add_metric([OTHER], max(rest))
    return family


def _runners(conn: Connection) -> Families:
    rows = overview.list_runners(conn)
    family = _gauge("runners", "Runners that should live.", "state")
    for state in ("alive", "silent"):
        family.add_metric([state], sum(row.state == state for row in rows))
    return [family]


def _events(conn: Connection) -> Families:
    outbox = event_overview.outbox(conn)
    return [
        _gauge("outbox_pending_events", "Events that nobody has moved yet.", value=outbox.pending),
        _gauge("outbox_oldest_age_seconds", "Age of the oldest of them.", value=_seconds(outbox.oldest_age)),
        _gauge("event_head_position", "Where the log stands.", value=outbox.head_position),
        *_subscriptions(event_overview.list_subscriptions(conn)[:SERIES]),
    ]


def _subscriptions(rows: Iterable[SubscriptionRow]) -> Families:
    events = _gauge("subscription_lag_events", "Events that it has not handled.", "subscription")
    seconds = _gauge("subscription_lag_seconds", "Age of the oldest of them.", "subscription")
    blocked = _gauge("subscription_blocked_keys", "Keys that a dead delivery blocks.", "subscription")
    paused = _gauge("subscription_paused", "1: nothing of it is started.", "subscription")
    deliveries = _gauge("subscription_deliveries", "Its open and dead deliveries.", "subscription", "state")
    for row in rows:
        events.add_metric([row.name], row.lag_events)
        seconds.add_metric([row.name], _seconds(row.lag))
        blocked.add_metric([row.name], row.blocked_keys)
        paused.add_metric([row.name], condition(row) == "paused")
        for state in STATES:
            deliveries.add_metric([row.name, state], getattr(row, state))
    return [events, seconds, blocked, paused, deliveries]


def _tables(conn: Connection) -> Families:
    dead = _gauge("table_dead_tuples", "Rows that wait for a vacuum.", "table")
    size = _gauge("table_size_bytes", "With indexes; partitions added up.", "table")
    for row in reports.list_tables(conn):
        dead.add_metric([row.name], row.dead_rows)
        size.add_metric([row.name], row.bytes)
    oldest = overview.recent(conn, minutes=1).oldest_transaction
    age = _gauge("oldest_transaction_age_seconds", "Nothing behind it can be vacuumed.", value=_seconds(oldest))
    return [dead, size, age]


_PARTS: dict[str, Callable[[Connection], Families]] = {
    "queues": _queues,
    "runners": _runners,
    "events": _events,
    "tables": _tables,
}


def _gauge(name: str, about: str, *labels: str, value: Any = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"jobrunner_{name}", about, labels=labels or None, value=value)


def _seconds(age: timedelta | None) -> float:
    return 0.0 if age is None else age.total_seconds()
