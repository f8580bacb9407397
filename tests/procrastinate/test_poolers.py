"""Behind PgBouncer in transaction mode with three sessions: a worker with our connector, a runner beside it, and an adoption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate import JobContext
from psycopg.conninfo import conninfo_to_dict

from jobrunner.procrastinate import JobrunnerConnector
from tests.conftest import Connection
from tests.ops.shell import Shell
from tests.pooler import Pooler
from tests.procrastinate.rig import Rig, RunnerRig, fresh_app
from tests.support import eventually


@pytest.fixture
def pooled(direct_dsn: str, pooler: Pooler, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way through it; nothing is set that leads past it."""
    monkeypatch.delenv("JOBRUNNER_LISTEN_DSN", raising=False)
    return pooler.dsn(str(conninfo_to_dict(direct_dsn)["dbname"]))


@pytest.fixture
async def app(pooled: str) -> AsyncIterator[procrastinate.App]:
    """Its four sessions share three of the server."""
    made = fresh_app(JobrunnerConnector(pooled, min_size=4, max_size=4))
    async with made.open_async():
        yield made


@pytest.fixture
async def rig(app: procrastinate.App, pooled: str, make_rig: type[Rig]) -> AsyncIterator[Rig]:
    """The app, and its workers, which are stopped after the test."""
    rig = make_rig(app, "ours", pooled)
    try:
        yield rig
    finally:
        await rig.stop()


def listening(pooled: str) -> list[tuple[Any, ...]]:
    """What any of the three sessions listens to."""
    with ExitStack() as stack:
        sessions = [stack.enter_context(psycopg.connect(pooled, prepare_threshold=None)) for _ in range(3)]
        return [row for session in sessions for row in session.execute("select pg_listening_channels()")]


@pytest.mark.parametrize("make_rig", [Rig, RunnerRig])
async def test_locks_retries_and_what_comes_later(rig: Rig, conn: Connection) -> None:
    note = rig.task()

    @rig.app.task(name="stumbles", retry=1, pass_context=True)
    async def stumbles(context: procrastinate.JobContext) -> None:
        rig.ran.append(f"try {context.job.attempts}")
        if context.job.attempts == 0:
            raise ValueError("once")

    for n in range(10):
        await note.configure(lock="l", queueing_lock=f"q{n}").defer_async(n=n)
    await stumbles.defer_async()
    ids = await note.batch_defer_async(*({"n": f"free {n}"} for n in range(10)))

    rig.start(concurrency=4, fetch_job_polling_interval=0.1)
    await eventually(lambda: len(rig.ran) == 22, what="all of them")
    assert [n for n in rig.ran if isinstance(n, int)] == list(range(10))
    assert [n for n in rig.ran if str(n).startswith("try")] == ["try 0", "try 1"]
    later = await note.defer_async(n="later")
    await rig.until(later, "succeeded")
    await rig.until(ids[-1], "succeeded")
    await rig.stop()
    assert conn.execute("select count(*) from jobrunner.unique_keys").fetchone() == (0,)


async def test_a_worker_that_polls_beats_aborts_and_leaves_nothing_in_a_session(rig: Rig, conn: Connection) -> None:
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
    async with await psycopg.AsyncConnection.connect(rig.dsn, prepare_threshold=None) as mine:
        await note.configure(connection=mine).defer_async(n=40)
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

    beats = conn.execute("select listening, lost_at, beat_at > started_at from jobrunner.runners")
    assert beats.fetchall() == [(False, None, True)]
    await rig.stop()
    assert conn.execute("select ended from jobrunner.runners").fetchall() == [("stopped",)]
    assert listening(rig.dsn) == []


async def test_a_worker_that_listens_past_it_is_woken(
    rig: Rig, direct_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBRUNNER_LISTEN_DSN", direct_dsn)
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


def test_an_adoption(pooled: str, conn: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    conn.execute(
        """insert into procrastinate_jobs (queue_name, task_name, args, lock)
           select 'default', 'note', '{}', case when i % 2 = 0 then 'lock ' || i % 7 end from generate_series(1, 1200) i"""
    )

    result = Shell(pooled, capsys)("adopt", "procrastinate", "--json")

    assert result.code == 0, result.err
    assert conn.execute("select count(*) from procrastinate_jobs").fetchone() == (0,)
    assert conn.execute("select count(*) from jobrunner.jobs").fetchone() == (1200,)
    assert conn.execute("select 1 from pg_locks where locktype = 'advisory'").fetchall() == []
