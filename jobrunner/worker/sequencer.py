"""The sequencer of one runner: moves what publishers left into the log, and walks over the log for those who want the past.

Every runner has one, and one works at a time. It is woken by a publisher's notification, by a look of the claimer that saw
something in the outbox, and by the poll. Its connection is its own: a step of a thousand events takes some 20 ms, and no claim or
settlement should wait for that.
"""

from __future__ import annotations

from collections.abc import Callable

from jobrunner.policy.floor import Floors, Horizon
from jobrunner.store import events
from jobrunner.telemetry import Telemetry
from jobrunner.worker.link import Link, Lost
from jobrunner.worker.loop import Loop

BATCH = 1000
"""Events in one step: 500 is a tenth slower, 2,000 a tenth faster and twice as long to wait for."""


class Sequencer:
    """Two loops on one connection."""

    def __init__(
        self, link: Link, floors: Floors, horizon: Horizon, poll: float, telemetry: Telemetry, wake: Callable[[], None]
    ) -> None:
        self._link, self._floors, self._horizon, self._telemetry, self._wake = link, floors, horizon, telemetry, wake
        self._sequence = Loop("sequence", self._step, poll, telemetry)
        self._walk = Loop("replay", self._walk_step, poll, telemetry)
        self._last = False
        self.loops = (self._sequence, self._walk)
        """To be run, each in a task."""

    def nudge(self) -> None:
        """Something was published, or somebody asked for a walk over the log."""
        self._sequence.nudge()
        self._walk.nudge()

    async def _step(self) -> bool:
        before = self._horizon.mark
        try:
            moved, delivered = await self._link.run(events.sequence, BATCH, self._floors.outbox)
        except Lost:
            return True  # a step is a transaction: it happened or it did not, and the next one sees which
        if 0 <= moved < BATCH:
            self._floors.outbox = max(self._floors.outbox, before.stamp)
        if moved > 0:
            self._telemetry.emit("events.sequenced", moved)
        if delivered > 0:
            self._telemetry.emit("events.delivered", delivered)
            self._wake()
        return moved == BATCH

    async def _walk_step(self) -> bool:
        last, self._last = self._last, False
        step = await self._link.run(events.replay_step, BATCH, last=last)
        if step.delivered:
            self._telemetry.emit("events.replayed", step.delivered)
            self._wake()
        self._last = step.near
        return step.walk is not None and step.more
