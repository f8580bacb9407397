"""Who this runner is to the database: an id that is never used twice, and a new one whenever the old cannot be trusted.

A claim whose answer was lost may have committed: its jobs run under this id and nobody runs them. A server that took over
may have forgotten a claim and given it to somebody else. So a runner that lost its claim connection, or was declared lost,
goes on under a new id and takes over, fenced by the old one, what it still has in hand; the rest is given back.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import Protocol

import psycopg

from jobrunner.policy.models import Claimed
from jobrunner.store import runners
from jobrunner.store.runners import Registration
from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.gate import Gate
from jobrunner.worker.link import Link, Lost, pause


class Hands(Protocol):
    """What a runner holds."""

    def in_hand(self) -> Iterable[Claimed]:
        """Everything claimed that has no accepted settlement yet."""

    def let_go(self, ids: set[int]) -> None:
        """These are no longer ours."""


class Identity:
    """The id of one runner, and its renewal."""

    def __init__(
        self,
        link: Link,
        about: Registration,
        gate: Gate,
        hands: Hands,
        telemetry: Telemetry,
        on_end: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.runner_id = 0
        """Random; 0 before the first registration."""
        self.claiming, self.settling = asyncio.Lock(), asyncio.Lock()
        """Held while a claim, a settlement is under way: the id does not change beneath it."""
        self._link, self._about, self._gate, self._hands = link, about, gate, hands
        self._telemetry, self._on_end = telemetry, on_end
        self._renewing: asyncio.Task[None] | None = None
        self._final = False

    async def register(self) -> None:
        """Become known under a first id."""
        self.runner_id = secrets.randbits(62)
        self._telemetry.emit("runner.registering", runner=self.runner_id)
        await self._link.run(runners.register, self.runner_id, self._about)

    def renew(self) -> None:
        """Claim no more until this runner goes on under a new id. Returns at once; safe to call again meanwhile."""
        if self._renewing is None and not self._final:
            self._gate.hold("renewing")
            self._renewing = asyncio.create_task(self._renew())
            self._renewing.add_done_callback(self._on_end)

    def keep(self) -> None:
        """No renewal begins any more: the runner is stopping."""
        self._final = True

    async def close(self) -> None:
        """End a renewal that is under way."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    async def _renew(self) -> None:
        # Until the new id has it all, the old one is beaten for: an id that nobody knows yet would let the others declare
        # this runner lost.
        old, tries = self.runner_id, 0
        holders = [old]  # all of them: an adoption whose answer was lost may have happened
        while self.runner_id == old:
            async with self.claiming, self.settling:
                held = {job.id: job for job in self._hands.in_hand()}
                ids, attempts = list(held), [job.attempt for job in held.values()]
                new, kept = secrets.randbits(62), set[int]()
                self._telemetry.emit("runner.registering", runner=new)
                try:
                    await self._link.run(runners.register, new, self._about)
                    for holder in holders:
                        kept |= await self._link.run(runners.adopt, holder, new, ids, attempts)
                    self.runner_id = new
                except (Lost, psycopg.Error) as error:
                    log.info("renewal: %s", error)
                    holders.append(new)
                    tries += 1
            if self.runner_id == old:
                await asyncio.sleep(pause(tries))
        self._hands.let_go(held.keys() - kept)
        await self._give_back(holders)
        self._telemetry.emit("runner.renewed", len(kept), runner=self.runner_id, old=old)
        self._renewing = None
        self._gate.release("renewing")

    async def _give_back(self, holders: list[int]) -> None:
        """What is in nobody's hands, at once: a rescue would first see its own heartbeat healthy for half a lease."""
        try:
            for holder in holders:
                await self._link.run(runners.stop, holder)
        except (Lost, psycopg.Error) as error:
            log.info("renewal: left to the rescue: %s", error)
