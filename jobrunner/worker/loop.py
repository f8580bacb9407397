"""A background step, again and again: at once when it says that there is more, else after a jittered interval or a nudge."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.link import Broken, pause
from jobrunner.worker.vitals import PATIENCE, Pulse


class Loop:
    """Runs *step* every *interval* seconds ± 20 %. An error is logged, counted and backed off from; the loop goes on, except for
    a broken set-up, which ends the runner."""

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[bool]],
        interval: float,
        telemetry: Telemetry,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self.name, self.pulse = name, Pulse(name, patience)
        self._step, self._interval, self._telemetry = step, interval, telemetry
        self._nudge = asyncio.Event()

    def nudge(self) -> None:
        """Run the step soon."""
        self._nudge.set()

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            self.pulse.beat()
            try:
                more = await self._step()
                failures = 0
            except Broken:
                raise
            except Exception as error:
                more = False
                failures += 1
                self._telemetry.emit("loop.failed", loop=self.name, error=error)
                log.log(30 if failures == 1 else 20, "%s failed: %s", self.name, str(error).partition("\n")[0])
                await asyncio.sleep(pause(failures))
            if not more:
                await self._rest()

    async def _rest(self) -> None:
        await self.pulse.wait(self._nudge, self._interval * random.uniform(0.8, 1.2))
        self._nudge.clear()
