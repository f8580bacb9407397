"""A background step goes on through errors, ends for a broken set-up, and comes early when nudged; a gate knows who holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jobrunner.telemetry import Telemetry
from jobrunner.worker import loop as module
from jobrunner.worker.gate import Gate
from jobrunner.worker.link import Broken
from jobrunner.worker.loop import Loop
from tests.support import eventually
from tests.worker.rig import Events, within


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_step_that_has_more_to_do_runs_again_at_once_and_then_rests() -> None:
    calls = 0

    async def step() -> bool:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return calls < 5

    task = asyncio.create_task(Loop("t", step, 60, Telemetry()).run())
    await eventually(lambda: calls == 5, deadline=2, what="five steps")
    await ended(task)


async def test_a_nudge_ends_the_rest_and_one_during_a_step_is_not_lost() -> None:
    calls, inside, go = 0, asyncio.Event(), asyncio.Event()

    async def step() -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            inside.set()
            await go.wait()
        return False

    loop = Loop("t", step, 60, Telemetry())
    task = asyncio.create_task(loop.run())
    await eventually(lambda: calls == 1, what="the first step")
    loop.nudge()
    await within(2, inside.wait())
    loop.nudge()
    go.set()
    await eventually(lambda: calls == 3, deadline=2, what="the step after the nudge")
    await ended(task)


@pytest.mark.parametrize("error", [ValueError, TimeoutError, ExceptionGroup("g", [ValueError()])])
async def test_a_step_that_fails_is_told_and_tried_again(
    error: type[Exception] | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "pause", lambda tries: 0.0)
    telemetry = Telemetry()
    events = Events(telemetry)
    calls = 0

    async def step() -> bool:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise error
        return False

    task = asyncio.create_task(Loop("sweep", step, 0.001, telemetry).run())
    await eventually(lambda: calls >= 5, deadline=2, what="the step after three errors")
    await ended(task)

    assert [facts["loop"] for facts in events.named("loop.failed")] == ["sweep"] * 3


async def test_a_broken_set_up_ends_the_loop() -> None:
    async def step() -> bool:
        raise Broken("no such function")

    with pytest.raises(Broken):
        await within(2, Loop("t", step, 60, Telemetry()).run())


async def test_a_gate_opens_when_the_last_reason_is_gone() -> None:
    gate = Gate()
    gate.hold("full")
    gate.hold("renewing")
    gate.hold("full")
    waiting = asyncio.create_task(gate.wait())

    gate.release("full")
    gate.release("never held")
    await asyncio.sleep(0)
    assert gate.reasons == {"renewing"}
    assert not waiting.done()

    gate.release("renewing")
    await within(1, waiting)
    assert gate.is_open


def test_an_observer_that_raises_stops_neither_the_count_nor_the_others() -> None:
    telemetry, seen = Telemetry(), list[str]()

    def broken(name: str, n: int, facts: object) -> None:
        raise ValueError

    observers: list[Callable[..., None]] = [broken, lambda name, n, facts: seen.append(name)]
    for observer in observers:
        telemetry.attach(observer)
    telemetry.emit("jobs.claimed", 3)
    telemetry.emit("jobs.claimed", 4)

    assert telemetry.counts["jobs.claimed"] == 7
    assert seen == ["jobs.claimed"] * 2
