"""The lease of one runner: what its heartbeat hears, and what follows on the event loop.

Sure while beats get through. Uncertain when none has for most of the lease: claiming stops, what has not started goes back,
and runs that did not say that they go on without a lease are cancelled. Lost when the database says so: a new identity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

from jobrunner.policy.lifecycle import CancelRequested, HandedBack
from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.gate import Gate
from jobrunner.worker.heartbeat import Heartbeat
from jobrunner.worker.identity import Identity
from jobrunner.worker.loop import Loop
from jobrunner.worker.slots import Slots
from jobrunner.worker.task import Runnable
from jobrunner.worker.vitals import Check, Pulse

_BEAT = 5.0  # seconds, or a sixth of a shorter lease
_MARGIN = 10.0  # seconds before the end of the lease, or a third of a shorter one, at which it becomes uncertain


class Lease:
    """The heartbeat's owner. Its public methods but `start`, `stop` and `watch` are called on the heartbeat's thread."""

    def __init__(
        self,
        dsn: str,
        ttl: timedelta,
        identity: Identity,
        slots: Slots,
        gate: Gate,
        tasks: Mapping[str, Runnable],
        is_listening: Callable[[], bool],
        telemetry: Telemetry,
    ) -> None:
        seconds = ttl.total_seconds()
        self._identity, self._slots, self._gate, self._tasks = identity, slots, gate, tasks
        self._is_listening, self._telemetry = is_listening, telemetry
        self._patience = seconds - min(_MARGIN, seconds / 3)
        self._heartbeat = Heartbeat(dsn, self, interval=min(_BEAT, seconds / 6), patience=self._patience)
        self._loop = asyncio.get_running_loop()
        self.pulse: Pulse = self._heartbeat.pulse
        """Of the heartbeat's thread."""
        self.healthy_for = self._heartbeat.healthy_for
        """Seconds that beats have got through without a gap."""
        self.watch = Loop("lease", self._watch, min(1.0, seconds / 10), telemetry)
        """Looks from outside: a beat may hang in a statement that a frozen server never answers."""

    def start(self) -> None:
        """Begin to beat."""
        self._heartbeat.start()

    def heard(self) -> None:
        """Notifications arrive: people should not wait for the next beat to see it."""
        self._heartbeat.nudge()

    async def stop(self) -> None:
        """Stop beating."""
        await asyncio.to_thread(self._heartbeat.stop)

    def check(self) -> Check:
        """Whether beats get through to the database."""
        silent = self._heartbeat.silent_for()
        told = f"the heartbeat does not get through to the database, for {silent:.0f} s now"
        return Check("heartbeat", None if self.healthy_for() > 0 else told, silent, self._patience)

    @property
    def runner_id(self) -> int:
        """Under which id to beat."""
        return self._identity.runner_id

    def vitals(self) -> tuple[int, bool]:
        """Running jobs, and whether notifications arrive."""
        return len(self._slots.running), self._is_listening()

    def beaten(self, cancel: list[int]) -> None:
        """A beat got through; *cancel*: jobs that a person wants stopped."""
        self._loop.call_soon_threadsafe(self._on_beat, cancel)

    def lost(self, runner_id: int) -> None:
        """The database has declared *runner_id* lost."""
        self._loop.call_soon_threadsafe(self._on_lost, runner_id)

    def _on_beat(self, cancel: list[int]) -> None:
        if "uncertain" in self._gate.reasons:
            log.warning("the heartbeat gets through again: claiming goes on")
        self._gate.release("uncertain")
        for job_id in cancel:
            self._slots.interrupt(job_id, CancelRequested())

    def _on_lost(self, runner_id: int) -> None:
        if runner_id == self._identity.runner_id:
            self._identity.renew()

    async def _watch(self) -> bool:
        if (silent := self._heartbeat.silent_for()) > self._patience:
            self._on_uncertain(silent)
        return False

    def _on_uncertain(self, silent: float) -> None:
        if "uncertain" not in self._gate.reasons:
            self._telemetry.emit("runner.uncertain", silent_seconds=silent)
            log.warning(
                "no heartbeat for %.0f s: claiming stops, jobs that cannot go on without a lease are cancelled", silent
            )
        self._gate.hold("uncertain")
        self._slots.hand_back("lease uncertain", older_than=-1)
        for job_id, run in list(self._slots.running.items()):
            if self._tasks[run.job.task].on_lease_uncertain == "cancel":
                self._slots.interrupt(job_id, HandedBack("lease uncertain"))
