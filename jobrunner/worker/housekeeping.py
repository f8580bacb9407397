"""What keeps a queue moving beside claims and settlements: every runner does all of it, none leads.

| loop      | every             | what                                                                        |
|-----------|-------------------|-----------------------------------------------------------------------------|
| rescue    | 5 s (or lease/6)  | gives back the jobs of runners that no longer beat                          |
| sweep     | 5 s, or a "look"  | moves jobs that ended in place and were left behind                         |
| unpark    | 5 s               | makes parked jobs ready that this runner knows                              |
| park      | a crowded claim   | puts jobs that no live runner knows out of the way                          |
| hand back | 0.5 s             | gives up claimed jobs that wait too long for a slot                         |
| progress  | 0.25 s, or an end | writes how far jobs are                                                     |
| retention | 1 h               | makes partitions ahead, drops what is old, mends keys without a holder      |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from jobrunner.store import history, jobs, runners
from jobrunner.store.jobs import Known
from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.link import Link, Lost
from jobrunner.worker.loop import Loop
from jobrunner.worker.patience import Session
from jobrunner.worker.slots import Slots

P = ParamSpec("P")
R = TypeVar("R")

_RETENTION = 600.0  # seconds for one of its steps

_RESCUE, _SWEEP, _UNPARK, _PARK = 500, 500, 2000, 5000  # rows at a time
_LONG_STEP = 1800.0  # seconds that retention may take after weeks without any


class Housekeeping:
    """The loops of one runner; but for retention they share a connection with its settler."""

    def __init__(
        self,
        dsn: str,
        link: Link,
        slots: Slots,
        known: Known,
        queues: Callable[[], set[str]],
        healthy_for: Callable[[], float],
        ttl: timedelta,
        telemetry: Telemetry,
    ) -> None:
        self._dsn = dsn
        self._link, self._slots, self._known, self._queues, self._telemetry = link, slots, known, queues, telemetry
        self._healthy_for, self._trusted_after = healthy_for, ttl.total_seconds() / 2
        self._noted: dict[int, dict[str, Any]] = {}
        self._parked_at = 0.0
        scan = min(5.0, ttl.total_seconds() / 6)
        self._sweep = Loop("sweep", self._sweep_ended, scan, telemetry)
        self._park = Loop("park", self._park_unknown, 300, telemetry)
        self._progress = Loop("progress", self._write_progress, 0.25, telemetry)
        self.loops = (
            Loop("rescue", self._rescue, scan, telemetry),
            self._sweep,
            Loop("unpark", self._unpark, 5, telemetry),
            self._park,
            Loop("hand back", self._hand_back, 0.5, telemetry),
            self._progress,
            Loop("retention", self._retain, 3600, telemetry, patience=_LONG_STEP),
        )
        """To be run, each in a task."""

    def look(self) -> None:
        """A person ended jobs that hold keys: sweep now."""
        self._sweep.nudge()

    def crowded(self) -> None:
        """A claim walked over jobs that nobody here can run; looked into once a second at the most."""
        now = time.monotonic()
        if now - self._parked_at > 1:
            self._parked_at = now
            self._park.nudge()

    def note_progress(self, job_id: int, progress: dict[str, Any]) -> None:
        """Write this with the next flush; callable from any thread."""
        self._noted[job_id] = progress

    def ended(self, job_id: int) -> None:
        """A run has ended: whoever sees the job end should see how far it came."""
        if job_id in self._noted:
            self._progress.nudge()

    async def flush(self) -> None:
        """Write every progress that was noted."""
        await self._write_progress()

    async def _rescue(self) -> bool:
        lost, rescued = await self._link.run(self._judge)
        if lost or rescued:
            log.warning("runners lost: %s, jobs given back: %s", lost, rescued)
        if rescued:
            self._telemetry.emit("jobs.rescued", rescued)
        return rescued >= _RESCUE

    async def _judge(self, conn: Session) -> tuple[int, int]:
        # After an outage every beat looks old at once: the live ones must get the time to beat before anyone judges. Asked
        # when the connection is there: before, the answer could be older than the outage that the link has waited for.
        if self._healthy_for() < self._trusted_after:
            return 0, 0
        return await jobs.rescue(conn, _RESCUE)

    async def _sweep_ended(self) -> bool:
        return await self._link.run(jobs.sweep, _SWEEP) >= _SWEEP

    async def _unpark(self) -> bool:
        return await self._link.run(jobs.unpark, self._known, _UNPARK) >= _UNPARK

    async def _park_unknown(self) -> bool:
        more = False
        for queue in self._queues():
            parked, seen = await self._link.run(jobs.park, queue, _PARK)
            if parked:
                self._telemetry.emit("jobs.parked", parked, queue=queue)
                log.warning("parked in queue %s, of tasks that no live runner knows: %s jobs", queue, parked)
                more = more or seen >= _PARK
        return more

    async def _hand_back(self) -> bool:
        self._slots.hand_back("not started")
        return False

    async def _write_progress(self) -> bool:
        # Popped one by one: a handler's thread may note something at any moment.
        if noted := {job_id: self._noted.pop(job_id) for job_id in list(self._noted)}:
            try:
                await self._link.run(jobs.write_progress, list(noted.values()))
            except BaseException:
                for job_id, progress in noted.items():
                    self._noted.setdefault(job_id, progress)  # unless something newer was noted
                raise
        return False

    async def _retain(self) -> bool:
        # A connection of its own: what takes long must not stand before a settlement. Each step for itself: one reader of an
        # old day must not keep the rest from being done.
        link = Link(self._dsn, "retention", limit=_RETENTION)
        bare = Link(self._dsn, "retention", limit=_RETENTION, whole=False)  # a detach cannot be in a transaction
        try:
            await self._step(link, runners.make_partitions, 7)
            await self._step(link, jobs.repair_keys)
            while await self._step(link, history.drop_dead):
                pass
            await self._step(link, history.drop_leftovers)
            while await self._step(link, history.drop_event_leftovers):
                pass
            for old in await self._step(link, history.old_partitions, "finished_jobs") or ():
                await self._step(bare, history.drop_history, old)
            for old in await self._step(link, history.old_partitions, "events") or ():
                if holders := await self._step(bare, history.drop_log, old):
                    log.warning("the log of %s stays: %s need it", old.name, ", ".join(holders))
                    break  # a later day would be needed too
        finally:
            await link.close()
            await bare.close()
        return False

    async def _step(
        self,
        link: Link,
        step: Callable[Concatenate[Session, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | None:
        try:
            return await link.run(step, *args, **kwargs)
        except (psycopg.Error, Lost) as error:
            self._telemetry.emit("loop.failed", loop="retention", error=error)
            log.warning("retention: %s: %s", step.__name__, str(error).partition("\n")[0])
            return None
