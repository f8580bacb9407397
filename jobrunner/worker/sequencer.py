"""The sequencer of one runner: moves what publishers left into the log, and walks over the log for those who want the past.

Every runner has one, and one works at a time. It is woken by a publisher's notification, and by a look of the claimer that saw
something in the outbox: so the claimer's poll is its own, and an idle runner asks nothing twice. It has a connection to itself: a
step of a thousand events takes some 20 ms, and no claim or settlement should wait for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psycopg

from jobrunner.policy.floor import Floors, Horizon
from jobrunner.policy.sqlstate import Trouble
from jobrunner.store import events
from jobrunner.telemetry import Telemetry
from jobrunner.worker.link import Link, Lost, trouble
from jobrunner.worker.loop import Loop

BATCH = 1000
"""Events in one step: 500 is a tenth slower, 2,000 a tenth faster and twice as long to wait for."""

_NET = 5.0  # seconds between two looks that nobody asked for
_WIDE = 1.0  # seconds between two steps from the very beginning, at the least
_WIDE_SHARE = (
    20  # … and they take at most a twentieth of the time: under a pinned snapshot one walks over all dead entries
)
_BREATH, _LONGEST_BREATH = 0.1, 1.0  # seconds that a walk waits for room, or for its rate, longer each time
_LEAST, _GROWTH = 10, 20  # a step that takes too long moves half as many, then a little more each time


class Sequencer:
    """Two loops on one connection."""

    def __init__(
        self, link: Link, floors: Floors, horizon: Horizon, telemetry: Telemetry, wake: Callable[[], None]
    ) -> None:
        self._link, self._floors, self._horizon, self._telemetry, self._wake = link, floors, horizon, telemetry, wake
        self._sequence = Loop("sequence", self._step, _NET, telemetry)
        self._walk = Loop("replay", self._walk_step, _NET, telemetry)
        self._last = False
        self._next_wide = 0.0
        self._most = BATCH
        self._breath = _BREATH
        self._timer: asyncio.TimerHandle | None = None
        self.loops = (self._sequence, self._walk)
        """To be run, each in a task."""

    def nudge(self) -> None:
        """Something was published, or somebody asked for a walk over the log."""
        self._sequence.nudge()
        self._walk.nudge()

    async def _step(self) -> bool:
        before, began = self._horizon.mark.stamp, time.monotonic()
        wide = began >= self._next_wide  # from the beginning: for a row that somebody held when the floor rose above it
        floor, lowered = 0 if wide else self._floors.outbox, self._floors.lowered
        most = self._most
        if wide:  # also when this step fails: one that always took too long would else be the only one that is tried
            self._next_wide = began + _WIDE
        try:
            step = await self._link.run(events.sequence, most, floor, self._horizon.passed)
        except Lost:
            return True  # a step is a transaction: it happened or it did not, and the next one sees which
        except psycopg.Error as error:
            # It is the look that takes too long in a wide step, unless there is no other kind.
            if trouble(error) is Trouble.SHRINK and (not wide or self._floors.outbox == 0):
                self._most = max(_LEAST, most // 2)
            raise
        self._most = min(BATCH, most + _GROWTH)
        if wide:
            took = time.monotonic() - began
            self._next_wide = began + took + max(_WIDE, _WIDE_SHARE * took)
        full = step.moved == most
        if step.moved >= 0 and lowered == self._floors.lowered:
            self._floors.outbox = max(self._floors.outbox, min(before, step.last or 0) if full else before)
        if step.moved > 0:
            self._telemetry.emit("events.sequenced", step.moved)
        if step.delivered > 0:
            self._telemetry.emit("events.delivered", step.delivered)
            self._wake()
        return full

    async def _walk_step(self) -> bool:
        last, self._last = self._last, False
        step = await self._link.run(events.replay_step, BATCH, last=last)
        if step.delivered:
            self._telemetry.emit("events.replayed", step.delivered)
            self._wake()
        self._last = step.near
        if step.walk is not None:
            self._breath = _BREATH
        if step.waits or (step.walk is not None and not step.more):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(self._breath, self._walk.nudge)
            self._breath = min(_LONGEST_BREATH, 2 * self._breath)
        return step.walk is not None and step.more
