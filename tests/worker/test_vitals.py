"""Signs of life: a loop that sleeps, waits for room or for the database is alive; one that has stopped is not."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest

from jobrunner import App, Context, Runner
from jobrunner.worker import link as links
from jobrunner.worker import vitals
from jobrunner.worker.link import Link
from jobrunner.worker.patience import Session
from jobrunner.worker.vitals import Pulse, Vitals
from tests.conftest import Connection
from tests.support import eventually

LOOPS = {
    "claim", "settle", "listen", "lease", "sequence", "replay", "rescue", "sweep", "unpark", "park", "hand back", "progress",
    "retention", "heartbeat",
}  # fmt: skip


async def test_a_pulse_beats_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "_BREATH", 0.01)
    pulse, event = Pulse("x"), asyncio.Event()
    before = pulse.at
    waiting = asyncio.create_task(pulse.wait(event))
    for _ in range(3):
        await eventually(partial(_later, pulse, before))
        before = pulse.at
    event.set()
    assert await waiting is True


def _later(pulse: Pulse, than: float) -> bool:
    return pulse.at > than


async def test_a_pulse_waits_no_longer_than_it_is_told() -> None:
    pulse, event = Pulse("x"), asyncio.Event()

    assert await pulse.wait(event, 0.01) is False
    assert await pulse.wait(event, 0) is False
    event.set()
    assert await pulse.wait(event, 0) is True


def test_age_counts_from_the_last_beat_or_from_when_the_database_let_go() -> None:
    now = time.monotonic()
    old, young, resting = Pulse("old"), Pulse("young"), Pulse("resting")
    old.at = now - 100
    resting.rest()

    checks = vitals.loops([old, young, resting], held_up_until=now - 50)
    assert [(one.name, one.problem is None, round(one.age or 0)) for one in checks] == [
        ("old", False, 50),
        ("young", True, 0),
        ("resting", True, 0),
    ]
    assert checks[0].problem == "no sign of life for 50 s"
    assert all(one.problem is None for one in vitals.loops([old, young], held_up_until=now))


async def test_a_link_says_that_the_database_holds_it_up(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_LONG", 0.05)
    link = Link(dsn, "test")

    async def quick(conn: Session) -> None:
        await conn.execute("select 1")

    async def slow(conn: Session) -> None:
        await conn.execute("select pg_sleep(0.2)")

    began = time.monotonic()
    await link.run(quick)
    monkeypatch.setattr(links, "_LONG", 0.1)
    calling = asyncio.create_task(link.run(slow))
    held = await eventually(lambda: (until := link.held_up_until()) > began + 0.1 and until)
    await calling
    assert held < link.held_up_until() < time.monotonic()
    await link.close()


async def test_a_runner_tells_how_it_is(dsn: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "_BREATH", 0.02)
    app, release = App("shop"), asyncio.Event()

    @app.task(queue="mail")
    async def hold(ctx: Context) -> None:
        await release.wait()

    runner = Runner(app, dsn, slots=2, poll="50ms")
    assert runner.vitals() == Vitals()
    async with runner:
        app.enqueue(conn, hold.job())
        app.enqueue(conn, hold.job())
        await eventually(lambda: runner.vitals().running == {"mail": 2}, what="two running jobs")
        # Every slot is taken, and will be for hours: the claim loop waits for room, and says so.
        before = {pulse.loop: pulse.at for pulse in runner._pulses}
        assert before.keys() == LOOPS
        await eventually(
            lambda: all(pulse.at > before[pulse.loop] for pulse in runner._pulses if pulse.loop in ("claim", "settle")),
            what="beats of loops that wait",
        )
        await eventually(lambda: runner.vitals().listening, what="a listening runner")
        found = runner.vitals()
        assert [check for part in (found.live, found.ready, found.started) for check in part if check.problem] == []
        assert found.slots == 2

        runner._background[0].cancel()  # the claim loop, by a bug that nobody has thought of
        next(pulse for pulse in runner._pulses if pulse.loop == "claim").patience = 0.1
        dead = await eventually(lambda: [check for check in runner.vitals().live if check.problem], what="a dead loop")
        assert [check.name for check in dead] == ["claim"]
        release.set()
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        assert [check.problem for check in runner.vitals().ready if check.name == "gate"] == [
            "it claims nothing now: stopping"
        ]
        await stopping
