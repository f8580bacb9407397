"""Takes jobs in: looks around (tick), claims into free slots, and rests so that the next commit wakes it.

One loop with every reason to wake in one place: a slot became free, a notification came, the poll is due, or a scheduled
job is. Polling is not a second path: it is the same look around, a second later.

(long because: every reason to look, to claim and to rest is in this one loop)
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import chain

import psycopg

from jobrunner.policy.floor import Class, Mark
from jobrunner.policy.models import Claimed
from jobrunner.policy.sqlstate import LOST_RUNNER, Trouble
from jobrunner.store import jobs
from jobrunner.store.jobs import Known, Tick
from jobrunner.telemetry import Telemetry
from jobrunner.worker.deliveries import Deliveries
from jobrunner.worker.gate import Gate
from jobrunner.worker.identity import Identity
from jobrunner.worker.lanes import Lane, Lanes
from jobrunner.worker.link import Link, Lost, trouble
from jobrunner.worker.slots import BATCH, Slots
from jobrunner.worker.vitals import Pulse

_TICK = 0.04  # seconds between two looks around while there is work
_NET = 1.0  # seconds between two looks from the very beginning, at the least
_NET_SHARE = 20  # … and they take at most a twentieth of the time
_CROWDED = 0.02  # seconds of a claim that say: it walked over jobs that nobody here can run
_FIRST_GAP, _LAST_GAP = 0.004, 0.02
_ASLEEP_SLACK = 2.0  # seconds that the flag outlives the poll: renewed less often, and gone soon after a crash
_GIVE_UP = 3.0  # seconds to wait for open transactions before resting all the same
_CLASSES = 64  # in one claim; more follow in further ones
_MANY_CLASSES = 1000  # known at a time; beyond it all are forgotten, and those with ready jobs found again
_LEAST, _GROWTH = 10, 20  # a claim that takes too long asks for half as many, then for a little more each time
_LOW_FIRST = 8  # every eighth claim asks the lowest priority first, so that none starves


class Claimer:
    """The claim loop of one runner."""

    def __init__(
        self,
        link: Link,
        slots: Slots,
        known: Known,
        queues: list[str] | None,
        poll: float,
        telemetry: Telemetry,
        gate: Gate,
        identity: Identity,
        on_crowded: Callable[[], None],
        *,
        events: Deliveries,
        lanes: Lanes | None = None,
    ) -> None:
        self.resting = asyncio.Event()
        """Set while it sleeps."""
        self.pulse = Pulse("claim")
        self._link, self._slots, self._poll, self._telemetry = link, slots, poll, telemetry
        self._gate, self._identity, self._on_crowded = gate, identity, on_crowded
        self._events = events
        self._any = queues is None
        self._floors, self._horizon = events.floors, events.horizon
        self._lanes = lanes or Lanes(known, self._floors, {}, {})
        self._given = queues or []
        self._floors.add((queue, 0) for queue in self._given)
        self._wake = asyncio.Event()
        self._woken_by = "local"
        self._last_tick = 0.0
        self._look_due = True
        self._woken = False
        self._flag_until = 0.0
        self._proven = False
        self._polled = False
        self._next_net = self._next_wide = 0.0
        self._claims = 0
        self._most = BATCH
        self._due_in: float | None = None

    def wake(self, payload: str = "", *, by: str = "local") -> None:
        """Look around soon; with "look", from the very beginning. *by*: for the count of what woke it."""
        if payload == "look":
            self._next_net = self._next_wide = 0.0
        self._look_due = True
        self._woken_by = by
        self._wake.set()

    def again(self) -> None:
        """Claim soon: a settlement has made a job ready, which needs no look around."""
        self._wake.set()

    @property
    def queues(self) -> set[str]:
        """The queues that it knows of."""
        return {queue for queue, _ in self._floors.ready}

    async def run(self) -> None:
        """Until cancelled. A lost connection means a new identity."""
        while True:
            try:
                await self._round()
            except Lost:
                self._identity.renew()
            except psycopg.Error as error:
                if error.sqlstate == LOST_RUNNER:
                    self._identity.renew()
                else:
                    if trouble(error) is Trouble.SHRINK:
                        self._most = max(_LEAST, self._most // 2)
                    self._telemetry.emit("loop.failed", loop="claim", error=error)
                    await asyncio.sleep(random.uniform(0, 0.1))

    async def _round(self) -> None:
        """Claim while there is room and something to claim; then rest."""
        await self.pulse.wait(self._gate.opened)
        if self._slots.demand() <= 0 and self._slots.prefetch() <= 0:
            await self._wait_for_room(None)
            return
        self._wake.clear()
        self._woken_by = "local"
        woken, self._woken = self._woken, False
        if woken and await self._claim(self._slots.room_for_any()):
            return  # what woke it is nearly always ready where jobs were before: a look first would double its wait
        if self._look_due or time.monotonic() - self._last_tick > _TICK:
            self._look_due = False
            renew, self._polled = self._polled and self._sure_for(0), False
            await self._look(asleep=renew)
            anything = self._slots.room_for_any()
        else:
            anything = self._slots.demand()
        if anything > 0:
            if not await self._claim(anything) and not self._look_due:
                await self._rest()
        elif not await self._claim(self._slots.prefetch(), plain=True):
            await self._wait_for_room(_TICK)

    async def _wait_for_room(self, seconds: float | None) -> None:
        self._slots.room.clear()
        if self._slots.demand() <= 0:
            await self.pulse.wait(self._slots.room, seconds)

    async def _look(self, *, asleep: bool = False) -> Tick:
        """One look around; *asleep*: with it, say (again) that this runner sleeps."""
        began = time.monotonic()
        rest = self._poll * 1.2 + _ASLEEP_SLACK
        wide = began >= self._next_wide
        waiting = self._floors.arrived, self._floors.due
        if wide:  # a run_at may be older than the commit that wrote it: now() is when a person's transaction began
            self._next_wide = began + _NET  # also when this look fails
            self._floors.forget_waiting()
        try:
            async with self._identity.claiming:
                tick = await self._link.run(
                    jobs.tick,
                    self._floors,
                    self._horizon.passed,
                    any_queue=self._any,
                    asleep=timedelta(seconds=rest) if asleep else None,
                )
        except BaseException:
            self._floors.arrived, self._floors.due = waiting
            raise
        if asleep:
            self._flag_until = began + rest
        self._last_tick = time.monotonic()
        if wide:
            self._next_wide = self._last_tick + max(_NET, _NET_SHARE * (self._last_tick - began))
        before = self._horizon.mark
        lower = self._horizon.observe(tick.snapshot, tick.drawn, tick.mark, self._last_tick)
        self._floors.looked(before, seen=tick.seen, seated=tick.seated, promoted=tick.promoted)
        if lower is not None:
            self._floors.lower(lower)
            self._lanes.lower(lower)
        if len(self._floors.ready) > _MANY_CLASSES:
            self._floors.ready.clear()
            self._floors.add((queue, 0) for queue in self._given)
            self._lanes.begin_anew()
        self._floors.add(tick.found)
        self._due_in = tick.due_in
        if tick.outbox or lower is not None:
            self._events.nudge()
        if tick.seated > 0 or tick.promoted > 0 or tick.found:
            self._look_due = True  # there may be more
        return tick

    async def _claim(self, n: int, *, plain: bool = False) -> bool:
        """One claim of at most *n* jobs into the slots; whether it brought any. The only place that raises floors."""
        n = min(n, self._most)
        order = self._order()
        if not order or n <= 0:  # a task may have stopped being quick since the caller looked
            return False
        began = time.monotonic()
        net = not plain and began >= self._next_net
        if net:
            self._floors.ready = dict.fromkeys(self._floors.ready, 0)
            self._lanes.begin_anew()
            self._next_net = began + _NET  # also when this claim fails
        horizon = self._horizon.mark
        async with self._identity.claiming:
            if not self._gate.is_open:
                return False
            claimed = await (self._claim_ahead(order, n) if plain else self._claim_lanes(order, n, horizon))
            await self._events.load(self._link, claimed)
            # Still under the lock: whoever changes the runner's id must find them in hand.
            claimed.sort(key=_start_order)
            self._slots.put(claimed, plain=plain)
        took = time.monotonic() - began
        if net:
            self._next_net = time.monotonic() + max(_NET, _NET_SHARE * took)
        if took > _CROWDED:
            self._on_crowded()
        self._most = min(BATCH, self._most + _GROWTH)
        self._telemetry.emit("claim.made", len(claimed), seconds=took)
        if claimed:
            self._telemetry.emit("jobs.claimed", len(claimed))
        return bool(claimed)

    async def _claim_lanes(self, order: list[Class], n: int, horizon: Mark) -> list[Claimed]:
        """At most *n* jobs, of each lane no more than it has room for."""
        claimed: list[Claimed] = []
        for lane in self._lanes.in_turn():
            part = [found for found in order if lane.takes(found[0])]
            room = min(n - len(claimed), lane.room(chain(self._slots.jobs(), claimed)))
            if not part or room <= 0:
                continue
            try:
                claimed += await self._claim_lane(lane, part, int(room), horizon)
            except psycopg.Error as error:
                if claimed:  # nobody would have them in hand: they go back when the runner goes on under a new id
                    raise Lost(str(error)) from error
                raise
        return claimed

    async def _claim_lane(self, lane: Lane, part: list[Class], n: int, horizon: Mark) -> list[Claimed]:
        self._lanes.know(lane, part)
        runner, plain = self._identity.runner_id, self._slots.suspects_wait
        for first in range(0, len(part), _CLASSES):
            some = part[first : first + _CLASSES]
            claimed = await self._link.run(jobs.claim, runner, n, some, lane.floors, lane.known, plain=plain)
            if not plain:  # else it has passed over what it might have taken
                lane.floors.claimed(some, _largest(claimed), len(claimed) >= n, horizon)
            if claimed:
                return claimed
        return []

    async def _claim_ahead(self, order: list[Class], n: int) -> list[Claimed]:
        """At most *n* jobs that may wait in hand; never of what has slots of its own."""
        part = [found for found in order if self._lanes.free.takes(found[0])][:_CLASSES]
        known = Known(*map(list, zip(*self._quick(), strict=True)))
        if not part or not known.tasks:
            return []
        return await self._link.run(jobs.claim, self._identity.runner_id, n, part, self._floors, known, plain=True)

    def _quick(self) -> list[tuple[str, int]]:
        quick, free = self._slots.quick_tasks, self._lanes.free.known
        return [pair for pair in zip(free.tasks, free.versions, strict=True) if pair[0] in quick]

    def _order(self) -> list[Class]:
        """Which classes to ask, in which order: priority first, queues in turn."""
        self._claims += 1
        order = sorted(self._floors.ready)
        if len(order) > 1:
            turn = self._claims % len(order)
            order = order[turn:] + order[:turn]
            order.sort(key=lambda found: found[1], reverse=self._claims % _LOW_FIRST != 0)
        return order

    async def _rest(self) -> None:
        """Nothing to claim: sleep until woken, the poll, or what is due, and be sure that no commit goes unnoticed."""
        wait = self._poll * random.uniform(0.8, 1.2)
        reason = "poll"
        if self._due_in is not None and self._due_in < wait:
            wait, reason = max(0.0, self._due_in), "timer"
        if not self._sure_for(wait) and await self._fall_asleep():
            self._woken = self._wake.is_set()
            return
        self.resting.set()
        try:
            if await self.pulse.wait(self._wake, wait):
                reason, self._woken = self._woken_by, True
            else:
                self._look_due = self._polled = True  # the next round looks around, and renews the flag
        finally:
            self.resting.clear()
        self._telemetry.emit("claimer.woken", reason=reason)

    def _sure_for(self, seconds: float) -> bool:
        return self._proven and time.monotonic() + seconds < self._flag_until

    async def _fall_asleep(self) -> bool:
        """Say that this runner sleeps, and make sure that every enqueue has heard it; True when something came first.

        An enqueue that read the flag before it was set may commit later and wake nobody. All such transactions had begun
        when the flag was set: their ids are below the one that the next look draws. So the claimer looks again, at growing
        gaps, until one empty claim had a snapshot in which all of them have ended. A flag that is renewed before it ends
        needs no new proof.
        """
        began = time.monotonic()
        self._proven = self._sure_for(0)
        await self._look(asleep=True)
        first: int | None = None
        gap = _FIRST_GAP
        while not self._proven:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(gap):
                    await self._wake.wait()
                    return True
            gap = min(gap * 1.3, _LAST_GAP)
            tick = await self._look()
            first = tick.drawn if first is None else first
            ended = tick.snapshot.xmin >= first or time.monotonic() - began > _GIVE_UP
            if await self._claim(self._slots.room_for_any()):
                return True
            self._proven = ended
        return False


def _start_order(job: Claimed) -> tuple[int, int]:
    return -job.priority, job.seq


def _largest(claimed: list[Claimed]) -> dict[Class, int]:
    seqs: dict[Class, int] = {}
    for job in claimed:
        found = (job.queue, job.priority)
        seqs[found] = max(seqs.get(found, 0), job.seq)
    return seqs
