"""How a runner stops, in stages: each gets its time, and a second signal hurries all of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import psycopg

from jobrunner.policy.lifecycle import HandedBack
from jobrunner.store import runners
from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.gate import Gate
from jobrunner.worker.housekeeping import Housekeeping
from jobrunner.worker.identity import Identity
from jobrunner.worker.link import Broken, Link, Lost
from jobrunner.worker.settler import Settler
from jobrunner.worker.slots import Slots

_LAST_WORDS = 2.0  # seconds for handlers cancelled at the end of the grace, and again for the last settlements
_HURRIED = 0.5  # what is left of either after a second signal


class Stopping:
    """The stop of one runner."""

    def __init__(
        self,
        gate: Gate,
        identity: Identity,
        slots: Slots,
        settler: Settler,
        link: Link,
        keeping: Housekeeping,
        telemetry: Telemetry,
    ) -> None:
        self.hurry = asyncio.Event()
        """Set: hand back at once."""
        self._gate, self._identity, self._slots, self._settler = gate, identity, slots, settler
        self._link, self._keeping, self._telemetry = link, keeping, telemetry

    async def stop(self, grace: float) -> None:
        """Claim no more, hand back what has not started, let running jobs end for *grace* seconds, cancel and hand back the
        rest, write every settlement, say good-bye."""
        self._identity.keep()
        self._gate.hold("stopping")
        until = time.monotonic() + grace
        await self._granted(self._claim_ended(), grace)
        self._slots.hand_back("shutdown", older_than=-1)
        if not await self._granted(self._runs_ended(), until - time.monotonic()):
            for job_id in list(self._slots.running):
                self._slots.interrupt(job_id, HandedBack("shutdown"))
            await self._granted(self._runs_ended(), _LAST_WORDS)
        if not await self._granted(self._say_good_bye(), _LAST_WORDS):
            log.warning("no good-bye: the database did not answer; another runner gives the jobs back")

    async def _granted(self, step: Coroutine[Any, Any, None], seconds: float) -> bool:
        """Whether *step* ended within *seconds*, or nearly at once after a second signal; else it is cancelled and left alone:
        a statement on a server that does not answer cannot even be waited for."""
        doing, hurry = asyncio.create_task(step), asyncio.create_task(self.hurry.wait())
        await asyncio.wait({doing, hurry}, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
        if self.hurry.is_set():
            await asyncio.wait({doing}, timeout=_HURRIED)
        hurry.cancel()
        doing.cancel()
        return doing.done()

    async def _claim_ended(self) -> None:
        async with self._identity.claiming:  # a claim that is under way brings rows that are ours
            pass

    async def _runs_ended(self) -> None:
        while self._slots.unsettled:
            self._slots.room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._slots.room.wait()

    async def _say_good_bye(self) -> None:
        try:
            await self._settler.drained()
            # The heartbeat ends last but one: until here everything in hand was ours.
            runner = self._identity.runner_id
            try:
                back = await self._link.run(runners.stop, runner)
            except Lost:  # a session that died unnoticed; saying it twice does no harm
                back = await self._link.run(runners.stop, runner)
            self._telemetry.emit("runner.stopped", back, runner=runner)
            await self._keeping.flush()
        except (Lost, Broken, psycopg.Error) as error:
            log.warning("no good-bye: %s; another runner gives the jobs back", error)
