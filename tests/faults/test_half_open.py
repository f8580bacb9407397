"""T07: connections that are dead and do not look it: a middlebox acknowledges for a server that is gone, a backend is paused."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from psycopg.conninfo import conninfo_to_dict

from jobrunner import App, Context, Event, Runner
from jobrunner.worker import ears, lending, patience
from tests.conftest import Connection
from tests.faults.proxy import Mode, Proxy
from tests.support import eventually
from tests.worker.rig import Events, backend, one, state

pytestmark = pytest.mark.faults


class Sizes(NamedTuple):
    """Seconds."""

    lease: float
    limit: float
    """For a loop's statement, with the last try."""
    probe: float
    quick: float
    """Within which heartbeat and ears have a new connection, from the freeze on."""
    others: float


SHORT = Sizes(lease=4.5, limit=1.2, probe=1.2, quick=4, others=6)
LONG = Sizes(lease=30, limit=12, probe=5, quick=10, others=20)
GRACE = 0.5
LOOPS = ("heartbeat", "listen", "claim", "settle", "sequence")


class Noted(Event, name="half.noted"):
    n: int


@pytest.fixture(params=[SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sizes:
    """The limits under test: those of every day, or shorter ones."""
    chosen: Sizes = request.param
    monkeypatch.setattr(patience, "LIMIT", chosen.limit - chosen.limit / 6)
    monkeypatch.setattr(patience, "LAST_TRY", chosen.limit / 6)
    monkeypatch.setattr(ears, "_PROBE", chosen.probe)
    return chosen


@pytest.fixture
def proxy(direct_dsn: str) -> Iterator[Proxy]:
    """A middlebox before the test's database."""
    given = conninfo_to_dict(direct_dsn)
    with Proxy(f"{given['host']}/.s.PGSQL.{given['port']}", str(given["dbname"])) as running:
        yield running


class Work:
    """An app whose jobs wait for a word of the test, and a count of what they did."""

    def __init__(self) -> None:
        self.app = App("half")
        self.go = asyncio.Event()
        self.starts: list[int] = []
        self.noted: list[int] = []
        self.cancelled: dict[str, float] = {}

        @self.app.task
        async def short(ctx: Context) -> None:
            self.starts.append(ctx.job_id)

        @self.app.task
        async def careful(ctx: Context) -> None:
            await self._wait("careful")

        @self.app.task(on_lease_uncertain="continue")
        async def bold(ctx: Context) -> None:
            await self._wait("bold")

        @self.app.task
        async def effect(ctx: Context) -> None:
            async with ctx.transaction() as tx:
                await tx.execute("select 1")

        @self.app.on(Noted)
        async def note(ctx: Context, event: Noted) -> None:
            self.noted.append(event.n)

        self.short, self.careful, self.bold, self.effect = short, careful, bold, effect

    async def _wait(self, who: str) -> None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled[who] = time.monotonic()
            raise


@pytest.mark.parametrize("mode", ["freeze", "swallow"])
async def test_each_loop_replaces_a_connection_that_is_silently_dead(
    mode: Mode, sizes: Sizes, proxy: Proxy, conn: Connection
) -> None:
    work = Work()
    took: dict[str, float] = {}
    async with Runner(work.app, proxy.dsn, lease=sizes.lease, grace=GRACE) as runner:
        events = Events(runner.telemetry)
        await eventually(lambda: runner._ears.listening, what="ears")
        work.app.enqueue(conn, work.bold.job())
        await eventually(lambda: runner._slots.running, what="the long run")
        for n, purpose in enumerate(LOOPS):
            job = work.app.enqueue(conn, work.short.job()) if purpose == "settle" else None
            if job is not None:
                await eventually(lambda: state(conn, job) == "succeeded", what="the settle connection in use")  # noqa: B023
            (old,) = proxy.set(mode, purpose)
            began = time.monotonic()
            later = work.app.enqueue(conn, work.short.job())
            work.app.publish(conn, Noted(n=n))
            within = sizes.quick if purpose in ("heartbeat", "listen") else sizes.others
            await eventually(
                lambda: old not in proxy.open() and len(proxy.open(purpose)) == 1,  # noqa: B023
                within,
                f"a new connection to {purpose}",
            )
            took[purpose] = round(time.monotonic() - began, 1)
            await eventually(lambda: state(conn, later) == "succeeded", sizes.others, "the job")  # noqa: B023
            await eventually(lambda: n in work.noted, sizes.others, "the event")  # noqa: B023
            await eventually(lambda: runner._ears.listening, sizes.others, "ears")
        print(took)  # noqa: T201
        assert events.named("runner.uncertain") == []
        assert work.cancelled == {}
        work.go.set()
        await runner.wait_idle(10)
        assert runner.failure is None

    assert len(work.starts) == len(set(work.starts)) == len(LOOPS) + 1
    assert sorted(set(work.noted)) == [0, 1, 2, 3, 4]
    assert one(conn, "select count(*) from jobrunner.finished_jobs where state <> 'succeeded'") == 0
    assert one(conn, "select count(*) from jobrunner.runners where ended = 'lost'") == 0


@pytest.mark.parametrize("mode", ["freeze", pytest.param("swallow", marks=pytest.mark.slow)])
async def test_when_all_are_dead_what_needs_its_lease_is_cancelled_in_time_and_a_stop_ends(
    mode: Mode, sizes: Sizes, proxy: Proxy, conn: Connection, direct_dsn: str
) -> None:
    """Also every new connection, so that nothing can be mended."""
    work = Work()
    runner = Runner(work.app, proxy.dsn, lease=sizes.lease, grace=GRACE)
    await runner.start()
    jobs = [work.app.enqueue(conn, task.job()) for task in (work.careful, work.bold)]
    await eventually(lambda: len(runner._slots.running) == 2, what="the runs")

    proxy.set(mode, new=True)
    frozen = time.monotonic()
    await eventually(lambda: "careful" in work.cancelled, sizes.lease, "the cancellation of what needs its lease")
    assert work.cancelled["careful"] - frozen < sizes.lease * 0.8, "too near to the end of the lease"
    assert "bold" not in work.cancelled
    later = work.app.enqueue(conn, work.short.job())

    began = time.monotonic()
    await runner.stop()
    assert time.monotonic() - began < GRACE + 5
    assert "bold" in work.cancelled

    work.go.set()
    async with Runner(work.app, direct_dsn, lease=sizes.lease, grace=GRACE):
        for job in (*jobs, later):
            await eventually(lambda: state(conn, job) == "succeeded", sizes.lease + 10, "the jobs elsewhere")  # noqa: B023
    assert one(conn, "select max(failures) from jobrunner.finished_jobs") == 0


@pytest.mark.parametrize("mode", [pytest.param("freeze", marks=pytest.mark.slow), "swallow"])
async def test_a_runner_whose_connections_all_died_at_once_comes_back(
    mode: Mode, sizes: Sizes, proxy: Proxy, conn: Connection
) -> None:
    """A failover of the middlebox: the old connections are dead, new ones are not."""
    work = Work()
    async with Runner(work.app, proxy.dsn, lease=sizes.lease, grace=GRACE) as runner:
        events = Events(runner.telemetry)
        work.app.enqueue(conn, work.effect.job())
        await runner.wait_idle(10)
        assert {wire.purpose for wire in proxy.open()} >= {*LOOPS, "handler"}

        old = proxy.set(mode)
        work.app.publish(conn, Noted(n=1))
        jobs = [work.app.enqueue(conn, task.job()) for task in (work.effect, work.short)]
        await eventually(
            lambda: not set(old) & set(proxy.open()), sizes.others + lending._LIMIT + 2, "the end of all old ones"
        )
        for job in jobs:
            await eventually(lambda: state(conn, job) == "succeeded", sizes.others, "the jobs")  # noqa: B023
        await eventually(lambda: work.noted, sizes.others, "the event")
        assert events.named("runner.uncertain") == []

    assert one(conn, "select max(failures) from jobrunner.finished_jobs") == 0


async def test_a_paused_backend_is_replaced(sizes: Sizes, direct_dsn: str, conn: Connection) -> None:
    """Stopped, it does not even hear the request to cancel; it wakes up to a client that is gone."""
    work = Work()
    async with Runner(work.app, direct_dsn, lease=sizes.lease, grace=GRACE) as runner:
        await runner.wait_idle(10)
        stopped: list[int] = []
        try:
            for purpose in ("claim", "heartbeat"):
                pid = await eventually(lambda: backend(conn, purpose), what=purpose)  # noqa: B023
                assert pid is not None
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
                job = work.app.enqueue(conn, work.short.job())
                await eventually(lambda: state(conn, job) == "succeeded", sizes.others, "the job")  # noqa: B023
                await eventually(
                    lambda: (
                        one(
                            conn,
                            "select count(*) from pg_stat_activity where datname = current_database() and application_name = %s",
                            f"jobrunner {purpose}",  # noqa: B023
                        )
                        == 2
                    ),
                    sizes.others,
                    f"a second session to {purpose}",
                )
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        await runner.wait_idle(10)
        assert len(work.starts) == 2
        assert not runner.telemetry.counts["runner.uncertain"]

    assert one(conn, "select count(*) from jobrunner.finished_jobs where crashes > 0 or failures > 0") == 0


async def test_a_slow_network_is_no_dead_one(sizes: Sizes, proxy: Proxy, conn: Connection) -> None:
    work = Work()
    proxy.delay = 0.2
    async with Runner(work.app, proxy.dsn, lease=sizes.lease, grace=5) as runner:
        old = proxy.set("delay", new=True)
        job = work.app.enqueue(conn, work.short.job())
        await eventually(lambda: state(conn, job) == "succeeded", 10, "the job")
        assert set(old) <= set(proxy.open())
        assert not runner.telemetry.counts["runner.renewed"]


async def test_a_settlement_whose_answer_is_dropped_is_sent_again(sizes: Sizes, proxy: Proxy, conn: Connection) -> None:
    work = Work()
    async with Runner(work.app, proxy.dsn, lease=sizes.lease, grace=GRACE) as runner:
        await runner.wait_idle(10)
        proxy.set("drop reply", "settle")
        job = work.app.enqueue(conn, work.short.job())
        await eventually(lambda: state(conn, job) == "succeeded", 5, "the job")
        await runner.wait_idle(10)

    assert work.starts == [job]
