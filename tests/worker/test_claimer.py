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
            now = datetime(2026, 1, 1, tzinfo=UTC)
            return Tick(
                Snapshot(1, 1, frozenset()), Mark(0, now), 0, 0, 0, None, [("default", 0)], drawn=1, outbox=False
            )

    link: Any = Link()
    identity: Any = SimpleNamespace(claiming=asyncio.Lock(), runner_id=1)
    claimer = Claimer(
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

    async with asyncio.timeout(2):
        await claimer._round()
