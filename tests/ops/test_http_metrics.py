"""The metrics: they count what happened, their labels are bounded, and a slow database leaves the most important one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from starlette.applications import Starlette

from jobrunner import App, Backoff, Cancel, Context, Reject, Runner, Snooze
from jobrunner.ops.http import create_app, gauges
from jobrunner.ops.http.app import probe_app
from jobrunner.ops.http.metrics import SERIES, RunnerMetrics
from jobrunner.store import overview
from tests.conftest import Connection
from tests.ops.asgi import ask
from tests.ops.shell import bury, enqueue, register
from tests.support import eventually

LABELS = {
    "queue",
    "task",
    "outcome",
    "result",
    "reason",
    "loop",
    "state",
    "subscription",
    "table",
    "collector",
    "version",
    "le",
}


async def scrape(app: Starlette) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    found = await ask(app, "/metrics")
    assert found.status == 200, found.text
    families = list(read_text(found.text))
    assert {label for family in families for sample in family.samples for label in sample.labels} <= LABELS
    assert all(family.documentation for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(samples: dict[Any, float], name: str, **labels: str) -> float:
    return samples[f"jobrunner_{name}", frozenset(labels.items())]


async def test_a_runner_counts_what_its_jobs_became(dsn: str, conn: Connection) -> None:
    app = App("shop")

    @app.task(queue="mail", retry=Backoff(attempts=2, base="0s", jitter="none"))
    async def work(ctx: Context, what: str) -> Snooze | Cancel | Reject | None:
        match what:
            case "fail":
                raise ValueError("no")
            case "snooze" if ctx.attempt == 1:
                return Snooze("0s")
            case "cancel":
                return Cancel("no longer wanted")
            case "reject":
                return Reject("never")
            case _:
                return None

    runner = Runner(app, dsn, poll="50ms", slots=4)
    probes = probe_app(runner, local=True)
    async with runner:
        for what in ("well", "well", "fail", "snooze", "cancel", "reject"):
            app.enqueue(conn, work.job(what=what))
        await runner.wait_idle()
        await eventually(lambda: runner.telemetry.counts["claimer.woken"] > 0, what="a claimer that has slept")
        found = await scrape(probes)

    labels = {"queue": "mail", "task": "shop.work"}
    finished = {one: of(found, "jobs_finished_total", **labels, outcome=one) for one in OUTCOMES}
    assert finished == {"succeeded": 3, "retried": 1, "snoozed": 1, "cancelled": 1, "dead": 2}
    assert of(found, "job_wait_seconds_count", **labels) == 8
    assert of(found, "job_duration_seconds_count", **labels, outcome="dead") == 2
    assert of(found, "job_duration_seconds_bucket", **labels, outcome="dead", le="1800") == 2
    assert of(found, "job_duration_seconds_bucket", **labels, outcome="dead", le="+Inf") == 2
    assert of(found, "claim_batch_jobs_sum") == 8
    assert of(found, "claims_total", result="hit") >= 2
    assert of(found, "claims_total", result="empty") >= 1
    assert of(found, "claim_duration_seconds_count") == of(found, "claims_total", result="hit") + of(
        found, "claims_total", result="empty"
    )
    assert sum(of(found, "wakeups_total", reason=reason) for reason in ("notify", "poll", "timer", "local")) >= 1
    assert of(found, "runner_slots") == 4
    assert of(found, "loop_heartbeat_age_seconds", loop="claim") < 10
    assert of(found, "build_info", version="0.1.0") == 1
    for name in ("listener_connected", "listener_reconnects_total", "rescued_total", "settlements_refused_total"):
        assert of(found, name) in (0, 1)


OUTCOMES = ("succeeded", "retried", "snoozed", "cancelled", "dead")


def test_labels_are_bounded_and_nothing_is_lost() -> None:
    app = App("shop")

    @app.task
    async def work(ctx: Context) -> None: ...

    runner = Runner(app, "")
    collector = RunnerMetrics(runner)
    for n in range(3 * SERIES):
        assert runner.telemetry.on_run is not None
        runner.telemetry.on_run(f"queue-{n}", "shop.work", "succeeded", 0.1, 0.2)
        runner.telemetry.on_run(f"queue-{n}", "shop.work", "handed_back", None, None)
    (finished,) = [family for family in collector.collect() if family.name == "jobrunner_jobs_finished"]

    assert len({(one.labels["queue"], one.labels["task"]) for one in finished.samples}) == SERIES + 1
    assert sum(one.value for one in finished.samples) == 6 * SERIES
    other = [one.value for one in finished.samples if one.labels["queue"] == "other"]
    assert sum(other) == 4 * SERIES


def test_a_runner_without_probes_tells_nobody_of_its_jobs() -> None:
    app = App("shop")

    @app.task
    async def work(ctx: Context) -> None: ...

    assert Runner(app, "").telemetry.on_run is None


@pytest.fixture
def pages(dsn: str) -> Iterator[Starlette]:
    app = create_app(dsn, insecure=True)
    yield app
    app.state.reader.close()


async def test_the_database_is_told_in_gauges(pages: Starlette, conn: Connection) -> None:
    register(conn, "shop.send")
    bury(conn, enqueue(conn, queue="mail"))
    enqueue(conn, queue="mail")
    enqueue(conn, queue="mail", delay="1 h")
    conn.execute("update jobrunner.jobs set run_at = now() - interval '90 s' where state = 'ready'")
    conn.execute("select jobrunner.op_pause('nightly', 'anna', null)")
    conn.execute(
        "select jobrunner.subscribe_v1('shop.ledger', 'shop', %s, null)", ['{"types": ["#"], "queue": "events"}']
    )
    conn.execute("select jobrunner.publish('order.paid', '{}')")

    found = await scrape(pages)
    assert [of(found, "queue_jobs", queue="mail", state=state) for state in ("ready", "scheduled", "dead", "running")] == [
        1, 1, 1, 0,
    ]  # fmt: skip
    assert 90 <= of(found, "queue_oldest_ready_age_seconds", queue="mail") < 120
    assert (of(found, "queue_paused", queue="nightly"), of(found, "queue_paused", queue="mail")) == (1, 0)
    assert of(found, "queue_consumers", queue="mail") == 1
    assert (of(found, "runners", state="alive"), of(found, "runners", state="silent")) == (1, 0)
    assert (of(found, "outbox_pending_events"), of(found, "event_head_position")) == (1, 0)
    assert of(found, "subscription_lag_events", subscription="shop.ledger") == 0
    assert of(found, "subscription_deliveries", subscription="shop.ledger", state="dead") == 0
    assert of(found, "table_size_bytes", table="jobs") > 0
    assert ("jobrunner_table_dead_tuples", frozenset({("table", "finished_jobs")})) in found
    assert of(found, "oldest_transaction_age_seconds") >= 0
    for collector in ("queues", "runners", "events", "tables"):
        assert of(found, "scrape_success", collector=collector) == 1
        assert of(found, "scrape_duration_seconds", collector=collector) < 2

    families = await ask(pages, "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert families.headers["content-type"].startswith("application/openmetrics-text")
    assert "jobrunner_queue_jobs" in {family.name for family in read_openmetrics(families.text)}  # type: ignore[no-untyped-call]


async def test_scrapes_share_one_reading(pages: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    queues = overview.list_queues

    def count(conn: Any) -> Any:
        nonlocal reads
        reads += 1
        return queues(conn)

    monkeypatch.setattr(overview, "list_queues", count)
    for _ in range(5):
        await scrape(pages)
    assert reads == 1


async def test_where_counting_takes_too_long_the_oldest_age_is_still_told(
    pages: Starlette, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(conn, queue="mail")
    conn.execute("update jobrunner.jobs set run_at = now() - interval '10 min'")

    def slow(conn: psycopg.Connection[Any]) -> Any:
        conn.execute("select pg_sleep(60)")

    monkeypatch.setattr(gauges, "_STATEMENT", 0.2)
    monkeypatch.setattr(overview, "list_queues", slow)
    found = await scrape(pages)

    assert of(found, "scrape_success", collector="queues") == 0
    assert of(found, "scrape_success", collector="runners") == 1
    assert of(found, "queue_oldest_ready_age_seconds", queue="mail") >= 600
    assert ("jobrunner_queue_jobs", frozenset({("queue", "mail"), ("state", "ready")})) not in found
