"""Whether a runner lives and works: the sign of life that each loop gives, and what a probe is told of it.

Age, not progress: a loop that sleeps on purpose says so every 5 s, and time that the database held up counts for nobody.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

PATIENCE = 15.0
"""Seconds after its last sign of life at which a loop counts as dead; it sleeps for 5 s at a time at the most."""

_BREATH = 5.0


class Pulse:
    """The sign of life of one loop."""

    __slots__ = ("at", "loop", "patience")

    def __init__(self, loop: str, patience: float = PATIENCE) -> None:
        self.loop, self.patience = loop, patience
        self.at = time.monotonic()

    def beat(self) -> None:
        """I am here."""
        self.at = time.monotonic()

    def rest(self) -> None:
        """From here to the next beat nothing is owed: for a thread that the database may keep for as long as it likes."""
        self.at = math.inf

    async def sleep(self, seconds: float) -> None:
        """Sleep, with a beat every 5 s."""
        await self.wait(asyncio.Event(), seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None = None) -> bool:
        """Wait for *event*, for *seconds* at the most, with a beat every 5 s; whether it came."""
        ends = math.inf if seconds is None else time.monotonic() + seconds
        while not event.is_set():
            self.beat()
            if (left := ends - self.at) <= 0:
                return False
            try:
                async with asyncio.timeout(min(_BREATH, left)):
                    await event.wait()
            except TimeoutError:
                pass
        self.beat()
        return True


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a probe asks for."""

    name: str
    problem: str | None = None
    """What is wrong, for a person; None: it passed."""
    age: float | None = None
    """Seconds since the last sign of life, where there are signs."""
    limit: float | None = None
    """From which age on it fails."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """How a runner is at one moment. Nothing of it was asked of the database."""

    live: tuple[Check, ...] = ()
    """Its loops: when one of these fails, only a restart helps."""
    ready: tuple[Check, ...] = (Check("started", "the runner has not started yet"),)
    """Whether it takes jobs now."""
    started: tuple[Check, ...] = (Check("started", "the runner has not started yet"),)
    """Whether it has registered and begun to claim."""
    running: Mapping[str, int] = field(default_factory=dict)
    """Jobs that run now, by queue."""
    slots: int = 0
    listening: bool = False
    """Whether notifications arrive."""


def loops(pulses: Iterable[Pulse], held_up_until: float) -> tuple[Check, ...]:
    """A check for each loop; its age counts from *held_up_until* where its last beat was before: a loop that waits for the
    database is not dead, and a restart would only make it wait again."""
    now = time.monotonic()
    return tuple(_loop(pulse, max(0.0, now - max(pulse.at, held_up_until))) for pulse in pulses)


def _loop(pulse: Pulse, age: float) -> Check:
    late = f"no sign of life for {age:.0f} s" if age > pulse.patience else None
    return Check(pulse.loop, late, age, pulse.patience)
