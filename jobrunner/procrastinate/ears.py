"""How a worker of procrastinate is woken: it waits for its own notifications, and gets them made from ours.

Enqueue notifies only while somebody says that he sleeps. A fetch that finds nothing says so; an enqueue that looked before may
commit later and wake nobody, so the worker is told to look again, at growing gaps, until one empty fetch saw a snapshot in which
all such transactions have ended (docs/design.md, waking up). Its own polling is what remains when notifications do not arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from procrastinate.connector import Notify

from jobrunner import config
from jobrunner.telemetry import Telemetry
from jobrunner.worker.ears import Ears

ASLEEP = timedelta(seconds=30)
"""For how long a fetch that finds nothing asks to be woken."""

_RENEW = 10.0
_FIRST_GAP, _LAST_GAP = 0.004, 0.02
_GIVE_UP = 3.0  # seconds behind transactions that stay open: after that the poll finds their jobs


class Sleeper:
    """Whether one worker may rest: told by its fetches, asked by the ears."""

    def __init__(self, stir: Callable[[], None]) -> None:
        self._stir = stir
        self._idle = self._proven = self._called = False
        self._first: int | None = None
        self._looks = 0
        self._until = 0.0

    def looks(self) -> None:
        """A fetch begins: whatever was heard before is taken care of."""
        self._called = False

    def found(self) -> None:
        """A fetch brought a job: the worker comes back by itself."""
        self._idle = self._proven = False

    def empty(self, xmin: int, drawn: int) -> None:
        """A fetch brought nothing, and asked to be woken; *xmin* and *drawn* of its look."""
        if not self._idle:
            self._idle, self._first, self._looks = True, None, 0
            self._until = time.monotonic() + _GIVE_UP
        self._looks += 1
        if self._looks == 2:
            self._first = drawn  # whoever read the flag before the first look set it has a lower id
        elif self._first is not None and xmin >= self._first:
            self._proven = True
        if self.must_look():
            self._stir()

    def call(self) -> None:
        """Something may be there."""
        self._called, self._until = True, time.monotonic() + _GIVE_UP
        self._stir()

    def must_look(self) -> bool:
        """Whether the worker rests and should not."""
        return self._idle and (self._called or not self._proven) and time.monotonic() < self._until


class WorkerEars:
    """What procrastinate's `listen_notify` is here: runs until cancelled, calls back in procrastinate's words."""

    def __init__(
        self,
        on_notification: Notify,
        channels: Iterable[str],
        sleepers: Callable[[], Iterable[Sleeper]],
        sweep: Callable[[], Awaitable[None]],
    ) -> None:
        self._tell, self._channel = on_notification, next(iter(channels), "")
        self._sleepers, self._sweep = sleepers, sweep
        self._stirred = asyncio.Event()
        self._aborts: list[int] = []
        self._to_sweep = False
        self._ears: Ears | None = None

    @property
    def listening(self) -> bool:
        """Whether notifications arrive."""
        return self._ears is not None and self._ears.listening

    def stir(self) -> None:
        """Somebody must look (again)."""
        self._stirred.set()

    async def run(self, dsn: Callable[[], Awaitable[str]]) -> None:
        """Until cancelled; *dsn* says where to, each time. A lost connection comes back; meanwhile the worker polls."""
        self._ears = Ears(dsn, self._heard, Telemetry(), around=config.listen_dsn())
        async with asyncio.TaskGroup() as both:
            both.create_task(self._ears.run())
            both.create_task(self._nudge())

    def _heard(self, payload: str) -> None:
        word, _, job_id = payload.partition(" ")
        if word == "abort":
            self._aborts.append(int(job_id))
        elif word != "outbox":
            self._to_sweep = self._to_sweep or word == "look"
            for sleeper in self._sleepers():
                sleeper.call()
        self._stirred.set()

    async def _nudge(self) -> None:
        gap = _FIRST_GAP
        while True:
            while self._aborts:
                await self._say({"type": "abort_job_requested", "job_id": self._aborts.pop(0)})
            if self._to_sweep:
                self._to_sweep = False
                await self._sweep()
            if any(sleeper.must_look() for sleeper in self._sleepers()):
                await self._say({"type": "job_inserted", "job_id": 0})
                await asyncio.sleep(gap)
                gap = min(gap * 1.3, _LAST_GAP)
                continue
            gap = _FIRST_GAP
            self._stirred.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RENEW):
                    await self._stirred.wait()
                    continue
            await self._say({"type": "job_inserted", "job_id": 0})  # an idle worker's fetch renews its flag

    async def _say(self, notification: dict[str, object]) -> None:
        await self._tell(channel=self._channel, payload=json.dumps(notification))
