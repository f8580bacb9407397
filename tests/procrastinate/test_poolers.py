"""Behind PgBouncer in transaction mode with three sessions: a worker with our connector, a runner beside it, and an adoption."""

from __future__ import annotations

from collections.abc import AsyncIterator

import procrastinate
import pytest
from psycopg.conninfo import conninfo_to_dict

from jobrunner.procrastinate import JobrunnerConnector
from tests.conftest import Connection
from tests.ops.shell import Shell
from tests.pooler import Pooler
from tests.procrastinate.rig import Rig, RunnerRig, fresh_app
from tests.support import eventually


@pytest.fixture
def pooled(direct_dsn: str, pooler: Pooler) -> str:
    """The way through it."""
    return pooler.dsn(str(conninfo_to_dict(direct_dsn)["dbname"]))


@pytest.fixture
async def app(pooled: str) -> AsyncIterator[procrastinate.App]:
    made = fresh_app(JobrunnerConnector(pooled, min_size=1, max_size=6))
    async with made.open_async():
        yield made


@pytest.mark.parametrize("make_rig", [Rig, RunnerRig])
async def test_locks_retries_and_what_comes_later(
    app: procrastinate.App, pooled: str, conn: Connection, make_rig: type[Rig]
) -> None:
    rig = make_rig(app, "ours", pooled)
    note = rig.task()

    @app.task(name="stumbles", retry=1, pass_context=True)
    async def stumbles(context: procrastinate.JobContext) -> None:
        rig.ran.append(f"try {context.job.attempts}")
        if context.job.attempts == 0:
            raise ValueError("once")

    for n in range(10):
        await note.configure(lock="l", queueing_lock=f"q{n}").defer_async(n=n)
    await stumbles.defer_async()
    ids = await note.batch_defer_async(*({"n": f"free {n}"} for n in range(10)))

    rig.start(concurrency=4, fetch_job_polling_interval=0.1)
    try:
        await eventually(lambda: len(rig.ran) == 22, what="all of them")
        assert [n for n in rig.ran if isinstance(n, int)] == list(range(10))
        assert [n for n in rig.ran if str(n).startswith("try")] == ["try 0", "try 1"]
        later = await note.defer_async(n="later")
        await rig.until(later, "succeeded")
        await rig.until(ids[-1], "succeeded")
    finally:
        await rig.stop()
    assert conn.execute("select count(*) from jobrunner.unique_keys").fetchone() == (0,)


def test_an_adoption(pooled: str, conn: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    conn.execute(
        """insert into procrastinate_jobs (queue_name, task_name, args, lock)
           select 'default', 'note', '{}', case when i % 2 = 0 then 'lock ' || i % 7 end from generate_series(1, 1200) i"""
    )

    result = Shell(pooled, capsys)("adopt", "procrastinate", "--json")

    assert result.code == 0, result.err
    assert conn.execute("select count(*) from procrastinate_jobs").fetchone() == (0,)
    assert conn.execute("select count(*) from jobrunner.jobs").fetchone() == (1200,)
