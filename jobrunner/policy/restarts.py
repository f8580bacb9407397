"""When a child process that died is started again: at once after a steady life, after growing pauses in a crash loop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from jobrunner.policy.backoff import Backoff

STEADY = timedelta(seconds=30)
"""A child that lived so long did not die of its start."""

_PAUSES = Backoff(base="1s", cap="30s", jitter="none")


@dataclass(frozen=True, slots=True)
class Restarts:
    """What is known of the children that had one place after another."""

    young: int = 0
    """How many died young, in a row."""

    def after(self, lived: timedelta) -> Restarts:
        """The same when another has died, which *lived* so long."""
        return Restarts() if lived >= STEADY else Restarts(self.young + 1)

    def pause(self, rand: float) -> timedelta:
        """How long to wait before the next start: nothing for the first that died young, then 1 s, 2 s, … 30 s, of which *rand*
        (in [0, 1)) takes up to a half, so that children that died together do not come back together."""
        if self.young < 2:
            return timedelta()
        return _PAUSES.delay(self.young - 1, 0) * (1 - rand / 2)
