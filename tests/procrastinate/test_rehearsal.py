"""Tasks of procrastinate under `jobrunner.testing`: in the one transaction of a test, and what they defer as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate import RetryDecision, exceptions, jobs

from jobrunner.errors import ConfigError
from jobrunner.policy.models import Job
from jobrunner.testing import Drained, drain
from jobrunner.testing.connections import async_twin, opened
from jobrunner.worker.app import App
from tests.conftest import Connection


@pytest.fixture
def dsn(_shared_dsn: str) -> str:
    """The database that nobody commits to."""
    return _shared_dsn


@pytest.fixture
def conn(dsn: str) -> Iterator[Connection]:
    with opened(dsn) as conn:
        yield conn


def cats(seen: list[Any]) -> procrastinate.Blueprint:
    made = procrastinate.Blueprint()

    @made.task(name="feed", pass_context=True)
    def feed(context: procrastinate.JobContext, n: int) -> None:
        seen.append((n, context.job.lock))
        if n:
            feed.configure(lock="cat").defer(n=n - 1)

    @made.task(name="stroke")
    async def stroke(n: int) -> None:
        seen.append(n)
        if n:
            await stroke.batch_defer_async({"n": n - 1}, {"n": n - 1})

    @made.task(name="call")
    async def call() -> None:
        for _ in range(2):
            try:
                await stroke.configure(queueing_lock="once").defer_async(n=0)
            except exceptions.AlreadyEnqueued:
                seen.append("already")
        await stroke.defer_async(n=0)
        raise ValueError("no cat")

    return made


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def app(seen: list[Any]) -> App:
    made = App("shop")
    made.include(cats(seen))
    return made


def test_what_a_task_defers_runs_in_the_same_drain(conn: Connection, app: App, seen: list[Any], dsn: str) -> None:
    app.enqueue(conn, Job("feed", {"n": 2}))

    assert drain(conn, app) == Drained(succeeded=3)

    assert seen == [(2, None), (1, "cat"), (0, "cat")]
    caused = "select count(*) from jobrunner.v_job where cause_job_id is not null"
    assert conn.execute(caused).fetchone() == (2,)
    with psycopg.connect(dsn) as other:
        assert other.execute("select count(*) from jobrunner.v_job").fetchone() == (0,)


async def test_and_so_it_is_on_an_async_connection(conn: Connection, app: App, seen: list[Any]) -> None:
    app.enqueue(conn, Job("feed", {"n": 1}))
    app.enqueue(conn, Job("stroke", {"n": 2}))

    assert await drain(async_twin(conn), app) == Drained(succeeded=9)

    assert sorted(each for each in seen if isinstance(each, int)) == [0, 0, 0, 0, 1, 1, 2]


def test_what_a_task_has_deferred_stays_when_it_fails(conn: Connection, app: App, seen: list[Any]) -> None:
    """Each defer is a transaction of its own in production: it outlives its task, and one that fails spoils no other."""
    app.enqueue(conn, Job("call"))

    assert drain(conn, app, raises=False) == Drained(dead=1, succeeded=2)

    assert seen == ["already", 0, 0]


def test_a_strategy_decides_as_in_production(conn: Connection, seen: list[Any]) -> None:
    class Elsewhere(procrastinate.BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
            return (
                RetryDecision(retry_in={"minutes": 5}, queue="b", lock="m", priority=3) if job.attempts == 0 else None
            )

    made = procrastinate.Blueprint()

    @made.task(name="mover", retry=Elsewhere(), pass_context=True, lock="l")
    async def mover(context: procrastinate.JobContext) -> None:
        seen.append((context.job.queue, context.job.lock, context.job.priority, context.job.attempts))
        raise ValueError("no")

    @made.task(name="given_up")
    async def given_up() -> None:
        raise exceptions.JobAborted

    app = App("shop")
    app.include(made)
    app.enqueue(conn, Job("mover", key="l"))
    app.enqueue(conn, Job("given_up"))

    assert drain(conn, app, raises=False) == Drained(failed=1, cancelled=1)
    assert drain(conn, app, raises=False, until="5m") == Drained(dead=1)
    assert seen == [("default", "l", 0, 0), ("b", "m", 3, 1)]


def test_middlewares_and_the_additional_context_are_there(conn: Connection, dsn: str, seen: list[Any]) -> None:
    if not hasattr(procrastinate, "middleware"):
        pytest.skip("this procrastinate has no middleware")

    async def around(call_next: Any, context: Any, worker: Any) -> Any:
        seen.append((worker.worker_name, context.additional_context["cat"]))
        return await call_next()

    theirs = procrastinate.App(
        connector=procrastinate.PsycopgConnector(),
        worker_defaults={"worker_middleware": [around], "additional_context": {"cat": "Tom"}, "name": "w"},
    )

    @theirs.task(name="plain")
    async def plain() -> None:
        seen.append("plain")

    app = App("shop")
    app.include(theirs)
    app.enqueue(conn, Job("plain"))

    assert drain(conn, app) == Drained(succeeded=1)
    assert seen == [("w", "Tom"), "plain"]


async def test_the_app_is_afterwards_as_it_was(conn: Connection, app: App) -> None:
    (theirs,) = {id(guest.app): guest.app for guest in app.guests}.values()  # type: ignore[attr-defined]
    before = theirs.connector
    app.enqueue(conn, Job("stroke", {"n": 1}))

    with pytest.raises(ConfigError, match="drain an AsyncConnection") as kept:
        drain(conn, app)
    assert theirs.connector is before is theirs.job_manager.connector, kept
    with pytest.raises(exceptions.AppNotOpen):
        await theirs.tasks["stroke"].defer_async(n=0)
