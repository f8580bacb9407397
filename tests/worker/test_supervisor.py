"""The parent of a fleet without real processes: what cannot be timed with them. The rest is tests/faults/test_fleet.py."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from jobrunner.worker.supervisor import Supervisor


class Child:
    """Number 1, as a supervisor sees it: ready."""

    number, told = 1, False

    def __init__(self, *, kept: bool) -> None:
        self.kept, self.ready, self.ended = kept, asyncio.Event(), asyncio.Event()
        self.ready.set()

    def stop(self) -> None:
        self.told = True
        self.ended.set()


async def test_a_successor_that_got_ready_and_died_takes_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its predecessor would be stopped, and nobody would follow."""
    supervisor = Supervisor(["nothing"], {}, count=1, dsn="", grace=1)
    old, new = Child(kept=True), Child(kept=False)
    supervisor._children.add(cast("Any", old))

    async def start(number: int, *, kept: bool) -> Child:
        new.ended.set()
        return new

    monkeypatch.setattr(supervisor, "_start", start)

    assert not await supervisor._relieve(1)
    assert (old.kept, old.told) == (True, False)
