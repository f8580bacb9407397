"""T08: behind PgBouncer in transaction mode nothing of ours is left in a session, and a runner says how it is woken."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobrunner import App, Context, Runner
from jobrunner.worker import ears, patience
from tests.conftest import Connect, Postgres
from tests.pooler import HERE, Pooler, binary
from tests.support import eventually
from tests.worker.rig import Events, one, state

LISTENS = "select coalesce(array_agg(c), '{}') from pg_listening_channels() c"


@pytest.fixture(scope="module")
def lifo(postgres: Postgres) -> Iterator[Pooler]:
    """Lends the session first that was given back last, as PgBouncer does: on an idle database always the same one."""
    with Pooler(postgres.host, postgres.port, scattered=False) as running:
        yield running


@pytest.fixture
def pooled(lifo: Pooler, direct_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way to the test's database through it; nothing is set that leads past it."""
    monkeypatch.delenv("JOBRUNNER_LISTEN_DSN", raising=False)
    return lifo.dsn(str(conninfo_to_dict(direct_dsn)["dbname"]))


@pytest.fixture
def app() -> App:
    return App("shop")


def listening(pooled: str) -> list[str]:
    """What any of the three sessions listens to."""
    with ExitStack() as stack:
        channels: list[str] = []
        for _ in range(3):
            session = stack.enter_context(psycopg.connect(pooled, prepare_threshold=None))  # holds one of them
            channels += one(session, LISTENS)
        return channels


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99) - 1]


@pytest.mark.parametrize(("way", "apart", "most"), [("poll", 0.03, 1.3), ("listen", 0.03, 0.05)])
async def test_how_long_a_job_waits(
    way: str, apart: float, most: float, app: App, pooled: str, direct_dsn: str, connect: Connect,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    sent: dict[int, float] = {}
    took: list[float] = []

    @app.task
    async def timed(ctx: Context, n: int) -> None:
        took.append(time.monotonic() - sent[n])

    if way == "listen":
        monkeypatch.setenv("JOBRUNNER_LISTEN_DSN", direct_dsn)
    conn = connect()
    with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as producer:
        async with Runner(app, pooled) as runner:
            if way == "listen":
                await eventually(lambda: runner._ears.listening, what="ears")
            await eventually(runner._claimer.resting.is_set, what="a runner at rest")
            for n in range(100):
                sent[n] = time.monotonic()
                app.enqueue(producer, timed.job(n))
                await asyncio.sleep(apart)  # the pace of the producer
            await eventually(lambda: len(took) == 100, what="the runs")
            assert not runner.telemetry.counts["loop.failed"]
            assert one(conn, "select listening from jobrunner.runners") is (way == "listen")
    print(f"{way}: p50 {sorted(took)[50]:.3f} s, p99 {p99(took):.3f} s, longest {max(took):.3f} s")  # noqa: T201
    assert p99(took) <= most
    assert [record.message for record in caplog.records if record.levelno > logging.WARNING] == []


async def test_nothing_listens_on_a_lent_session(app: App, pooled: str, caplog: pytest.LogCaptureFixture) -> None:
    """It would go on for whoever gets it next; and on an idle pool the own probe would come back and prove what is not so."""

    @app.task
    async def t(ctx: Context) -> None: ...

    async with Runner(app, pooled) as runner:
        (down,) = await Events(runner.telemetry).wait_for("listener.down")
        assert down["reason"] == "a pooler is in between; set JOBRUNNER_LISTEN_DSN to a direct address"
        assert not runner._ears.listening
        assert listening(pooled) == []
    assert "set JOBRUNNER_LISTEN_DSN to a direct address" in caplog.text


@pytest.mark.parametrize(
    ("leads_to", "reason"),
    [
        ("the pooler", "JOBRUNNER_LISTEN_DSN leads through a pooler; set it to a direct address"),
        ("another database", "notifications do not arrive"),
    ],
)
async def test_a_way_around_that_leads_nowhere_is_found_out(
    leads_to: str, reason: str, app: App, pooled: str, direct_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    async def t(ctx: Context) -> None: ...

    monkeypatch.setattr(ears, "_PROBE", 2.0)
    around = pooled if leads_to == "the pooler" else make_conninfo(direct_dsn, dbname="postgres")
    monkeypatch.setenv("JOBRUNNER_LISTEN_DSN", around)
    async with Runner(app, pooled) as runner:
        (down, *_) = await Events(runner.telemetry).wait_for("listener.down")
        assert down["reason"] == reason
        assert not runner.telemetry.counts["listener.up"]
    assert listening(pooled) == []


async def test_a_pooler_that_keeps_sessions_apart_can_be_listened_through(
    app: App, postgres: Postgres, pooled: str, direct_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    async def t(ctx: Context) -> None: ...

    with Pooler(postgres.host, postgres.port, mode="session") as session:
        monkeypatch.setenv("JOBRUNNER_LISTEN_DSN", session.dsn(str(conninfo_to_dict(direct_dsn)["dbname"])))
        async with Runner(app, pooled) as runner:
            await Events(runner.telemetry).wait_for("listener.up")


async def test_a_role_whose_transactions_are_serializable_leaves_that_to_the_others(
    app: App, pooled: str, direct_dsn: str, connect: Connect
) -> None:
    conn = connect()
    conn.execute(f"alter database {conn.info.dbname} set default_transaction_isolation = 'serializable'".encode())

    @app.task
    async def t(ctx: Context) -> None: ...

    async with Runner(app, pooled) as runner:
        job = app.enqueue(conn, t.job())
        await eventually(lambda: state(conn, job) == "succeeded", what="the job")
        assert not runner.telemetry.counts["loop.failed"]
        with psycopg.connect(pooled, autocommit=True) as other:
            assert one(other, "show transaction_isolation") == "serializable"


async def test_handlers_that_hold_every_session_of_the_pool_delay_the_runner_and_lose_nothing(
    app: App, pooled: str, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Four are lent to transactions and the pool has three: no claim, settlement or heartbeat gets through meanwhile."""
    monkeypatch.setattr(patience, "LIMIT", 0.5)
    monkeypatch.setattr(patience, "LAST_TRY", 0.2)
    go = asyncio.Event()
    inside: list[int] = []

    @app.task(on_lease_uncertain="continue")
    async def hold(ctx: Context) -> None:
        async with ctx.transaction() as tx:
            await tx.execute("select 1")
            inside.append(ctx.job_id)
            await go.wait()

    @app.task
    async def short(ctx: Context) -> None: ...

    conn = connect()
    app.enqueue_many(conn, [hold.job() for _ in range(5)])
    async with Runner(app, pooled, slots=10, lease="3s") as runner:
        events = Events(runner.telemetry)
        await eventually(lambda: len(inside) == 3, what="a pool of which nothing is left")
        later = app.enqueue(conn, short.job())
        await events.wait_for("runner.uncertain")
        go.set()
        await eventually(lambda: state(conn, later) == "succeeded", 20, "the job that waited")
        await runner.wait_idle(20)

    assert "a pooler that has no free server connection" in caplog.text
    assert one(conn, "select count(*) from jobrunner.finished_jobs where state = 'succeeded'") == 6
    assert one(conn, "select max(failures) from jobrunner.finished_jobs") == 0


def test_without_it_the_tests_fail_in_ci_and_are_skipped_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a machine with neither PgBouncer nor apt."""
    script = Path(shutil.copy(HERE / "pgbouncer.sh", tmp_path))
    script.write_text(script.read_text().replace("PATH=$PATH:/usr/sbin\n", ""))
    (tmp_path / "sh").symlink_to("/bin/sh")
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "")
    monkeypatch.setattr("tests.pooler.HERE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="there is no apt-get here; install it"):
        binary()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="there is no apt-get here; install it"):
        binary()
