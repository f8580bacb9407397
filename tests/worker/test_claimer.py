"""One look of the claimer and what it asks for then, with a stand-in for its connection."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from jobrunner.policy.floor import Mark, Snapshot
from jobrunner.store.jobs import Known, Tick
from jobrunner.telemetry import Telemetry
from jobrunner.worker.app import App
from jobrunner.worker.claimer import Claimer
from jobrunner.worker.deliveries import Deliveries
from jobrunner.worker.gate import Gate


def tick(found: list[tuple[str, int]]) -> Tick:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Tick(Snapshot(1, 1, frozenset()), Mark(0, now), 0, 0, 0, None, found, drawn=1, outbox=False)


def claimer_with(link: Any, slots: Any) -> Claimer:
    identity: Any = SimpleNamespace(claiming=asyncio.Lock(), runner_id=1)
    return Claimer(
        link,
        slots,
        Known(["shop.t"], [1]),
        None,
        1.0,
        Telemetry(),
        Gate(),
        identity,
        on_crowded=lambda: None,
        events=Deliveries(App("shop"), lambda: None),
    )


async def test_a_task_that_stops_being_quick_during_a_look_ends_nothing() -> None:
    """The slots learn while the claimer awaits: what was room for quick jobs may be none when it asks."""
    slots: Any = SimpleNamespace(
        quick_tasks={"shop.t"},
        demand=lambda: 0,
        room_for_any=lambda: 0,
        room=asyncio.Event(),
        put=lambda jobs, plain: None,
    )
    slots.prefetch = lambda: 50 if slots.quick_tasks else 0

    class Link:
        async def run(self, call: Any, *args: Any, **kwargs: Any) -> Any:
            if call.__name__ == "claim":
                assert args[1] > 0
                return []
            slots.quick_tasks = set()
            return tick([("default", 0)])

    async with asyncio.timeout(2):
        await claimer_with(Link(), slots)._round()


async def test_who_is_woken_claims_first_and_looks_around_when_that_brought_nothing() -> None:
    """A look first would double the wait of a job whose queue and priority are known, as nearly all are."""
    asked: asyncio.Queue[str] = asyncio.Queue()
    found = [[("default", 0)]]
    slots: Any = SimpleNamespace(
        quick_tasks=set(),
        demand=lambda: 5,
        room_for_any=lambda: 5,
        prefetch=lambda: 0,
        put=lambda jobs, plain: None,
        jobs=list,
        suspects_wait=False,
    )

    class Link:
        async def run(self, call: Any, *args: Any, **kwargs: Any) -> Any:
            asked.put_nowait(call.__name__)
            return [] if call.__name__ == "claim" else tick(found.pop() if found else [])

    claimer = claimer_with(Link(), slots)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        running = group.create_task(claimer.run())
        await claimer.resting.wait()
        while not asked.empty():
            asked.get_nowait()
        claimer.wake()
        assert [await asked.get(), await asked.get()] == ["claim", "tick"]
        running.cancel()
