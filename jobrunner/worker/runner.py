"""A runner: everything wired together. It registers, claims, runs, settles, looks after the queue, and says good-bye.

    heartbeat (thread) ── lease ──┐
    ears ── wake ──► claimer ──► slots ──► executor ──► settler ──► history
                       ▲                                   │
                       └──────────── wake, room ───────────┘       loops: rescue, sweep, park, unpark, progress, retention

(long because: the composition root; every part that can hold, wake or end another one is connected here)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, Connection

from jobrunner import config
from jobrunner.errors import ConfigError
from jobrunner.policy.durations import duration
from jobrunner.policy.lifecycle import CancelRequested, FinishedInPlace, HandedBack, Outcome, decide
from jobrunner.policy.models import Claimed
from jobrunner.store import failures, history, jobs, migrate, runners
from jobrunner.store.jobs import Known
from jobrunner.telemetry import Telemetry, log
from jobrunner.version import VERSION
from jobrunner.worker.app import App
from jobrunner.worker.claimer import Claimer
from jobrunner.worker.ears import Ears
from jobrunner.worker.executor import DONE, Executor
from jobrunner.worker.gate import Gate
from jobrunner.worker.heartbeat import Heartbeat
from jobrunner.worker.lending import Lending
from jobrunner.worker.link import Broken, Link, Lost, pause
from jobrunner.worker.loop import Loop
from jobrunner.worker.settler import Settler
from jobrunner.worker.slots import Slots

_LAST_WORDS = (
    5.0  # seconds for handlers that were cancelled at the end of the grace, and again for the last settlements
)


class Runner:
    """Runs an app's tasks until it is stopped. `async with Runner(app) as runner:` or `await Runner(app).run()`.

    *queues*: None takes every queue. *slots*: jobs at a time. *lease*: how long after its last heartbeat a runner counts as
    alive (its jobs are back at most 6 s later). *poll*: the longest a job waits when its notification is lost. *grace*: what
    running jobs get at a stop before they are cancelled and handed back.
    """

    def __init__(
        self,
        app: App,
        dsn: str | None = None,
        *,
        queues: Iterable[str] | None = None,
        slots: int = 10,
        lease: str | float | timedelta = "30s",
        poll: str | float | timedelta = "1s",
        grace: str | float | timedelta = "25s",
    ) -> None:
        if not app.tasks:
            raise ConfigError(
                f"app {app.name}", "has no tasks: import the modules that declare them before the runner starts"
            )
        if not 1 <= slots <= 10_000:
            raise ConfigError("slots", f"must be from 1 to 10000, got {slots}")
        self.app = app
        self.runner_id = 0
        """Random, new for every life and after every lost connection."""
        self.telemetry = Telemetry()
        self.queues = None if queues is None else sorted(set(queues))
        self._dsn = config.dsn(dsn)
        self._size = slots
        self._ttl = duration(lease, what="lease")
        self._poll = duration(poll, what="poll").total_seconds()
        self._grace = duration(grace, what="grace").total_seconds()
        if self._ttl < timedelta(seconds=1):
            raise ConfigError("lease", "must be at least 1s")
        self._known = Known(list(app.tasks), [task.version for task in app.tasks.values()])
        self._progress: dict[int, dict[str, Any]] = {}
        self._background: list[asyncio.Task[None]] = []
        self._parked_at = 0.0
        self._failure: BaseException | None = None
        self._ended: asyncio.Event | None = None

    # ------------------------------------------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if error is None and self._failure is not None:
            raise self._failure

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; the first stops gracefully, a second hands back at once.

        Raises:
            JobrunnerError: the database cannot be used as it is set up.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            async with self:
                assert self._ended is not None
                await self._ended.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        assert self._ended is not None
        if self._ended.is_set():
            log.warning("%s again: handing back at once", number.name)
            self._hurry.set()
        else:
            log.info("%s: stopping, running jobs have %g s", number.name, self._grace)
        self._ended.set()

    async def start(self) -> None:
        """Register and begin to claim.

        Raises:
            DatabaseUnavailable, SchemaMissing, SchemaTooOld, SchemaTooNew: before anything is written.
        """
        ttl = self._ttl.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._ended, self._hurry, self._stopping = asyncio.Event(), asyncio.Event(), False
        self._renewing: asyncio.Task[None] | None = None
        self._gate = Gate()
        self._claim_link, self._settle_link = Link(self._dsn, "claim"), Link(self._dsn, "settle")
        self._lending = Lending(self._dsn)
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="jobrunner handler")
        self._executor = Executor(self.app.tasks, self._threads, self.telemetry)
        self._slots = Slots(self._size, self._executor, self, self._settle)
        self._claimer = Claimer(
            self._claim_link, self._slots, self._known, self.queues, self._poll, self.telemetry, self._gate, self
        )
        self._settler = Settler(
            self._settle_link, lambda: self.runner_id, self.telemetry, self._claimer.wake, self._gate
        )
        self._ears = Ears(config.listen_dsn(self._dsn), self._notified, self.telemetry)
        self._heartbeat = Heartbeat(self._dsn, self, interval=min(5.0, ttl / 6), patience=ttl - min(10.0, ttl / 3))

        try:
            await self._check_database()
            await self._register()
        except BaseException:
            await self._close()
            raise
        self._heartbeat.start()
        self._slots.start()
        scan = min(5.0, ttl / 6)
        self._park = Loop("park", self._park_unknown, 300, self.telemetry)
        self._sweep = Loop("sweep", self._sweep_ended, scan, self.telemetry)
        self._spawn(self._claimer.run())
        self._spawn(self._settler.run())
        self._spawn(self._ears.run())
        for loop in (
            self._park,
            self._sweep,
            Loop("rescue", self._rescue, scan, self.telemetry),
            Loop("unpark", self._unpark, 5, self.telemetry),
            Loop("hand back", self._hand_back, 0.5, self.telemetry),
            Loop("progress", self._write_progress, 0.25, self.telemetry),
            Loop("retention", self._retain, 3600, self.telemetry),
        ):
            self._spawn(loop.run())
        self.telemetry.emit("runner.started", runner=self.runner_id)

    async def stop(self) -> None:
        """Stop in stages: claim no more, hand back what has not started, let running jobs end for the grace, cancel and hand
        back the rest, write every settlement, say good-bye. Safe to call twice."""
        if self._stopping or self._ended is None:
            return
        self._stopping = True
        self._ended.set()
        self._gate.hold("stopping")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS), self._claimer.lock:
                pass  # a claim that is under way brings rows that are ours
        self._slots.hand_back("shutdown", older_than=-1)
        if not await self._ends(self._grace, hurry=True):
            for job_id in list(self._slots.running):
                self._slots.interrupt(job_id, HandedBack("shutdown"))
            await self._ends(_LAST_WORDS)
        try:
            async with asyncio.timeout(_LAST_WORDS):
                await self._write_progress()
                await self._settler.drained()
                # The heartbeat ends last but one: until here everything in hand was ours.
                back = await self._settle_link.run(runners.stop, self.runner_id)
                self.telemetry.emit("runner.stopped", back, runner=self.runner_id)
        except (TimeoutError, Lost, Broken, psycopg.Error) as error:
            log.warning(
                "no good-bye: %s; another runner gives the jobs back", str(error) or "the database did not answer"
            )
        await asyncio.to_thread(self._heartbeat.stop)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._slots.close()
        await self._close()

    async def _close(self) -> None:
        await self._lending.close()
        await self._claim_link.close()
        await self._settle_link.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ends(self, seconds: float, *, hurry: bool = False) -> bool:
        """Whether nothing runs any more within *seconds*."""
        deadline = time.monotonic() + seconds
        while self._slots.running and time.monotonic() < deadline and not (hurry and self._hurry.is_set()):
            self._slots.room.clear()
            try:
                async with asyncio.timeout(0.05):
                    await self._slots.room.wait()
            except TimeoutError:
                pass
        return not self._slots.running

    async def wait_idle(self, timeout: str | float | timedelta = 30.0) -> None:
        """Return when no job of this app's tasks is ready, waiting for its turn, running, due or unsettled.

        Raises:
            TimeoutError: after *timeout*.
            JobrunnerError: the runner has failed.
        """
        async with asyncio.timeout(duration(timeout, what="timeout").total_seconds()):
            while True:
                if self._failure is not None:
                    raise self._failure
                if not self._slots.in_hand:
                    await self._settler.drained()
                    try:
                        if not await self._settle_link.run(jobs.is_busy, self._known.tasks):
                            await self._write_progress()
                            return
                    except (Lost, psycopg.Error):
                        pass  # the link comes back, or the timeout does
                await asyncio.sleep(0.02)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        task.add_done_callback(self._task_ended)
        self._background.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("the runner cannot go on: %s", error)
        if self._failure is None:
            cause = error.__cause__
            ours = failures.in_our_words(cause, self._dsn) if isinstance(cause, psycopg.Error) else None
            self._failure = ours or error
        self._gate.hold("failed")
        assert self._ended is not None
        self._ended.set()

    # ------------------------------------------------------------------------------------------------ identity

    async def _check_database(self) -> None:
        try:
            conn = await self._claim_link.open_once()
            migrate.check(await migrate.installed_version_async(conn))
        except psycopg.Error as error:
            ours = failures.in_our_words(error, self._dsn)
            raise (ours or error) from error

    async def _register(self) -> None:
        self.runner_id = secrets.randbits(62)
        about = runners.Registration(
            ttl=self._ttl,
            slots=self._size,
            app=self.app.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=VERSION,
            queues=self.queues,
            tasks=[task.as_json() for task in self.app.tasks.values()],
        )
        await self._claim_link.run(runners.register, self.runner_id, about)

    def renew(self) -> None:
        """The claim connection was lost, or this runner was declared lost: claim no more until it goes on under a new id."""
        if self._renewing is None and not self._stopping:
            self._gate.hold("renewing")
            self._renewing = asyncio.create_task(self._renew())
            self._renewing.add_done_callback(self._task_ended)

    async def _renew(self) -> None:
        """Take a new id, and with it what is still in hand. A claim whose answer was lost belongs to the old id and is given
        back; so is anything that a server which took over has forgotten or given to somebody else."""
        tries = 0
        while True:
            async with self._claimer.lock, self._settler.lock:
                old, held = self.runner_id, {job.id: job for job in self._in_hand()}
                try:
                    await self._register()
                    kept = await self._claim_link.run(
                        runners.adopt, old, self.runner_id, list(held), [job.attempt for job in held.values()]
                    )
                    break
                except (Lost, psycopg.Error) as error:
                    self.runner_id = old
                    log.info("renewal: %s", error)
            tries += 1
            await asyncio.sleep(pause(tries))
        gone = held.keys() - kept
        self._slots.drop(set(gone))
        for job_id in gone:
            self._slots.interrupt(job_id, HandedBack("lost lease"))
        self.telemetry.emit("runner.renewed", len(kept), runner=self.runner_id, old=old)
        self._renewing = None
        self._gate.release("renewing")

    def _in_hand(self) -> Iterable[Claimed]:
        yield from (run.job for run in self._slots.running.values())
        yield from self._slots.buffered()
        yield from self._settler.pending.jobs()

    # -------------------------------------------------------------------------- what the parts call

    def _settle(self, job: Claimed, outcome: Outcome) -> None:
        if outcome is DONE and job.key is None:
            self._settler.succeed(job)  # what decide would say, without asking it 30,000 times a second
        elif isinstance(outcome, FinishedInPlace):
            self._settler.put(job, None)
        else:
            self._settler.put(job, decide(job, outcome, self.app.tasks[job.task].retry, random.random()))

    def _notified(self, payload: str) -> None:
        if payload == "look":
            self._sweep.nudge()
        self._claimer.wake(payload)

    def crowded(self) -> None:
        """A claim walked over jobs that nobody here can run; looked into once a second at the most."""
        now = time.monotonic()
        if now - self._parked_at > 1:
            self._parked_at = now
            self._park.nudge()

    def note_progress(self, job_id: int, progress: dict[str, Any]) -> None:
        """Write this with the next flush; callable from any thread."""
        self._progress[job_id] = progress

    async def lend_async(self) -> AsyncConnection[Any]:
        """See `Lending`."""
        return await self._lending.lend_async()

    async def take_back_async(self, conn: AsyncConnection[Any]) -> None:
        """See `Lending`."""
        await self._lending.take_back_async(conn)

    def lend(self) -> Connection[Any]:
        """See `Lending`."""
        return self._lending.lend()

    def take_back(self, conn: Connection[Any]) -> None:
        """See `Lending`."""
        self._lending.take_back(conn)

    # -------------------------------------------------------------------------- the heartbeat's thread calls

    def vitals(self) -> tuple[int, bool]:
        """Running jobs, and whether notifications arrive."""
        return len(self._slots.running), self._ears.listening

    def beaten(self, cancel: list[int]) -> None:
        """A beat got through."""
        self._loop.call_soon_threadsafe(self._on_beat, cancel)

    def lost(self, runner_id: int) -> None:
        """The database has declared *runner_id* lost."""
        self._loop.call_soon_threadsafe(self._on_lost, runner_id)

    def uncertain(self, silent: float) -> None:
        """No beat got through for *silent* seconds."""
        self._loop.call_soon_threadsafe(self._on_uncertain, silent)

    def _on_beat(self, cancel: list[int]) -> None:
        self._gate.release("uncertain")
        for job_id in cancel:
            self._slots.interrupt(job_id, CancelRequested())

    def _on_lost(self, runner_id: int) -> None:
        if runner_id == self.runner_id:
            self.renew()

    def _on_uncertain(self, silent: float) -> None:
        if "uncertain" not in self._gate.reasons:
            self.telemetry.emit("runner.uncertain", silent_seconds=silent)
            log.warning(
                "no heartbeat for %.0f s: claiming stops, jobs that cannot go on without a lease are cancelled", silent
            )
        self._gate.hold("uncertain")
        for job_id, run in list(self._slots.running.items()):
            if self.app.tasks[run.job.task].on_lease_uncertain == "cancel":
                self._slots.interrupt(job_id, HandedBack("lease uncertain"))

    # ------------------------------------------------------------------------------------------------ loops

    async def _rescue(self) -> bool:
        # After an outage every beat looks old at once: the live ones must get the time to beat before anyone judges.
        if self._heartbeat.healthy_for() < self._ttl.total_seconds() / 2:
            return False
        lost, rescued = await self._settle_link.run(jobs.rescue, 500)
        if lost or rescued:
            log.warning("%s runners were lost, %s jobs given back", lost, rescued)
        if rescued:
            self.telemetry.emit("jobs.rescued", rescued)
        return rescued >= 500

    async def _sweep_ended(self) -> bool:
        return await self._settle_link.run(jobs.sweep, 500) >= 500

    async def _unpark(self) -> bool:
        return await self._settle_link.run(jobs.unpark, self._known, 2000) >= 2000

    async def _park_unknown(self) -> bool:
        more = False
        for queue in self._claimer.queues:
            parked, seen = await self._settle_link.run(jobs.park, queue, 5000)
            if parked:
                self.telemetry.emit("jobs.parked", parked, queue=queue)
                log.warning("%s jobs in queue %s are of tasks that no live runner knows: parked", parked, queue)
                more = more or seen >= 5000
        return more

    async def _hand_back(self) -> bool:
        self._slots.hand_back("not started")
        return False

    async def _write_progress(self) -> bool:
        if self._progress:
            noted, self._progress = self._progress, {}
            try:
                await self._settle_link.run(jobs.write_progress, list(noted.values()))
            except BaseException:
                self._progress = noted | self._progress
                raise
        return False

    async def _retain(self) -> bool:
        await self._settle_link.run(runners.make_partitions, 7)
        await self._settle_link.run(history.retain)
        await self._settle_link.run(jobs.repair_keys)
        return False
