"""A limit asks once, after as many runs as it says or a little earlier."""

from __future__ import annotations

import asyncio

from jobrunner.telemetry import Telemetry
from jobrunner.worker.recycling import Recycling, rss
from tests.support import eventually


def test_runs_of_every_outcome_count_and_it_asks_once() -> None:
    asked: list[tuple[str, str]] = []
    telemetry = Telemetry()
    telemetry.attach(Recycling(9, None, lambda *why: asked.append(why)).observe)

    for event, n in (("jobs.claimed", 100), ("jobs.succeeded", 5), ("jobs.settled", 3)):
        telemetry.emit(event, n, handed_back=0)
    telemetry.emit("jobs.settled", 50, handed_back=50)
    assert asked == []
    for _ in range(2):
        telemetry.emit("jobs.settled", handed_back=0)

    assert asked == [("jobs", "9 jobs have run")]


def test_processes_that_began_together_do_not_end_together() -> None:
    ends = set[int]()
    for _ in range(200):
        asked: list[str] = []
        recycling = Recycling(1000, None, lambda kind, why, asked=asked: asked.append(why))  # type: ignore[misc]
        n = 0
        while not asked:
            n += 1
            recycling.observe("jobs.succeeded", 1, {})
        ends.add(n)

    assert min(ends) >= 900 and max(ends) <= 1000 and len(ends) > 20


async def test_memory_is_looked_at_and_told() -> None:
    asked: list[tuple[str, str]] = []
    watch = asyncio.create_task(Recycling(None, rss() // 2, lambda *why: asked.append(why)).watch())
    await eventually(lambda: asked)
    await Recycling(None, None, lambda *why: asked.append(why)).watch()  # no limit: nothing to look at
    watch.cancel()

    [(kind, why)] = asked
    assert kind == "memory" and why.endswith("MB of memory")
