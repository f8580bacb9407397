"""Behind PgBouncer in transaction mode, with three sessions of the server: the connector, its worker, and the adoption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from procrastinate import JobContext
from psycopg.conninfo import conninfo_to_dict

from jobrunner.procrastinate import JobrunnerConnector
from tests.ops.shell import Shell
from tests.pooler import Pooler
from tests.procrastinate.rig import Rig, fresh_app
from tests.support import eventually


@pytest.fixture
def pooled(pooler: Pooler, dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way to the test's database through it; nothing is set that leads past it."""
    monkeypatch.delenv("JOBRUNNER_LISTEN_DSN", raising=False)
    return pooler.dsn(str(conninfo_to_dict(dsn)["dbname"]))


@pytest.fixture
async def rig(pooled: str) -> AsyncIterator[Rig]:
    """Four sessions of the app share three of the server."""
    app = fresh_app(JobrunnerConnector(pooled, min_size=4, max_size=4))
    async with app.open_async():
        made = Rig(app, "ours", pooled)
        try:
            yield made
        finally:
            await made.stop()


def ask(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        return conn.execute(statement.encode()).fetchall()


def listening(pooled: str) -> list[tuple[Any, ...]]:
    """What any of the three sessions listens to."""
    with ExitStack() as stack:
        sessions = [stack.enter_context(psycopg.connect(pooled, prepare_threshold=None)) for _ in range(3)]
        return [row for session in sessions for row in session.execute("select pg_listening_channels()")]


async def test_a_worker_that_polls(rig: Rig, dsn: str) -> None:
    failures: list[int] = []

    @rig.app.task(name="flaky", retry=1, lock="l")
    async def flaky() -> None:
        failures.append(1)
        if len(failures) == 1:
            raise ValueError

    @rig.app.task(name="endless", pass_context=True)
    async def endless(context: JobContext) -> None:
        await asyncio.Event().wait()

    note = rig.task(lock="n")
    for n in range(40):
        await note.defer_async(n=n)
    async with await psycopg.AsyncConnection.connect(rig.dsn, prepare_threshold=None) as conn:
        await note.configure(connection=conn).defer_async(n=40)
    flaked = await flaky.defer_async()
    rig.start(
        concurrency=5,
        fetch_job_polling_interval=0.02,
        abort_job_polling_interval=0.02,
        update_heartbeat_interval=0.02,
    )
    await rig.until(flaked, "succeeded")
    aborted = await endless.defer_async()
    await rig.until(aborted, "doing")
    await rig.manager.cancel_job_by_id_async(aborted, abort=True)
    await rig.until(aborted, "aborted")
    await eventually(lambda: rig.ran == list(range(41)))

    assert ask(dsn, "select listening, lost_at, beat_at > started_at from jobrunner.runners") == [(False, None, True)]
    await rig.stop()
    assert ask(dsn, "select ended from jobrunner.runners") == [("stopped",)]
    assert listening(rig.dsn) == []


async def test_a_worker_that_listens_past_it(rig: Rig, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBRUNNER_LISTEN_DSN", dsn)
    note = rig.task()
    rig.start(fetch_job_polling_interval=60)

    def resting() -> bool:
        ears = rig.app.connector._ears  # type: ignore[attr-defined]
        sleepers = rig.app.connector._desk.workers.sleepers()  # type: ignore[attr-defined]
        return any(each.listening for each in ears) and all(each._idle and each._proven for each in sleepers)

    for n in range(3):
        await eventually(resting)
        await note.defer_async(n=n)
        await eventually(lambda: len(rig.ran) > n, deadline=5)  # noqa: B023

    assert listening(rig.dsn) == []


def test_an_adoption(pooled: str, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In five batches, which hardly ever have the same session."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "insert into procrastinate_jobs (queue_name, task_name, args, lock) "
            "select 'default', 'note', '{}', nullif(i % 3, 0)::text from generate_series(1, 2001) i"
        )

    done = Shell(pooled, capsys)("adopt", "procrastinate", "--json", "--wait")

    assert done.code == 0, done.err
    assert done.json["moved"] == 2001
    assert ask(dsn, "select count(*) from procrastinate_jobs where task_name = 'note'") == [(0,)]
    assert ask(dsn, "select count(*) from jobrunner.jobs where task = 'note'") == [(2001,)]
    assert ask(dsn, "select 1 from pg_locks where locktype = 'advisory' and granted") == []
