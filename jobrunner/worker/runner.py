"""A runner: everything wired together. It registers, claims, runs, settles, looks after the queue, and says good-bye.

    heartbeat (thread) ── lease ──┐
    ears ── wake ──► claimer ──► slots ──► executor ──► settler ──► history
                       ▲                                   │
    sequencer ── wake ─┴──────────── wake, room ───────────┘       loops: rescue, sweep, park, unpark, progress, retention

(long because: the composition root; every part that can hold, wake or end another one is connected here)
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg

from jobrunner import config
from jobrunner.errors import ConfigError
from jobrunner.policy.durations import duration
from jobrunner.policy.lifecycle import HandedBack, Outcome
from jobrunner.policy.models import Claimed
from jobrunner.policy.subscriptions import differences
from jobrunner.store import events, failures, jobs, migrate, runners
from jobrunner.store.jobs import Known
from jobrunner.telemetry import Telemetry, log
from jobrunner.version import VERSION
from jobrunner.worker.app import App
from jobrunner.worker.children import Children
from jobrunner.worker.claimer import Claimer
from jobrunner.worker.deliveries import Deliveries
from jobrunner.worker.ears import Ears
from jobrunner.worker.ending import Ending
from jobrunner.worker.error_stream import ErrorStream
from jobrunner.worker.executor import Executor
from jobrunner.worker.gate import Gate
from jobrunner.worker.housekeeping import Housekeeping
from jobrunner.worker.identity import Identity
from jobrunner.worker.lanes import Lanes
from jobrunner.worker.lease import Lease
from jobrunner.worker.lending import Lending
from jobrunner.worker.link import Link, Lost
from jobrunner.worker.options import Options
from jobrunner.worker.places import places_of, refuse_while_found
from jobrunner.worker.sequencer import Sequencer
from jobrunner.worker.settler import Settler
from jobrunner.worker.slots import Slots
from jobrunner.worker.stopping import Stopping
from jobrunner.worker.threads import Threads
from jobrunner.worker.vitals import Check, Pulse, Vitals, loops

R = TypeVar("R")


class Runner:
    """Runs an app's tasks until it is stopped. `async with Runner(app) as runner:` or `await Runner(app).run()`.

    *queues*: None takes every queue. *slots*: jobs at a time; *queue_slots*: at most so many of these queues among them (a task
    says it of itself: `app.task(slots=…)`), not claimed ahead. *lease*: how long after its last heartbeat a runner counts as
    alive (its jobs are back at most 6 s later). *poll*: the longest a job waits when its notification is lost. *grace*: what
    running jobs get at a stop before they are cancelled and handed back. *children*: processes for the jobs of tasks with
    executor="process", as many as there are cores unless given. *quarantine*: jobs under which a runner was lost run alone, in a
    process where the app is imported and nothing else has been set up; False runs them here like all others.
    """

    def __init__(
        self,
        app: App,
        dsn: str | None = None,
        *,
        queues: Iterable[str] | None = None,
        slots: int = 10,
        queue_slots: Mapping[str, int] | None = None,
        lease: str | float | timedelta = "30s",
        poll: str | float | timedelta = "1s",
        grace: str | float | timedelta = "25s",
        children: int | None = None,
        quarantine: bool = True,
    ) -> None:
        if not app.tasks:
            raise ConfigError(
                f"app {app.name}",
                "has no tasks and no subscriptions: import the modules that declare them before the runner starts",
            )
        self.app = app
        self.telemetry = Telemetry()
        self._dsn = config.dsn(dsn)
        self._options = Options.checked(
            queues=queues,
            slots=slots,
            queue_slots=queue_slots,
            lease=lease,
            poll=poll,
            grace=grace,
            children=children,
            quarantine=quarantine,
        )
        self._places = places_of(app)
        self._known = Known(list(app.tasks), [task.version for task in app.tasks.values()])
        self._background: list[asyncio.Task[None]] = []
        self._pulses: list[Pulse] = []
        self._failure: BaseException | None = None
        self._error_streams: list[ErrorStream] = []
        self._starting: asyncio.Task[None] | None = None
        self._ended: asyncio.Event | None = None

    @property
    def dsn(self) -> str:
        """Where its jobs are."""
        return self._dsn

    @property
    def size(self) -> int:
        """Jobs at a time."""
        return self._options.slots

    @property
    def queues(self) -> list[str] | None:
        """Which queues it reads, sorted; None: all."""
        return self._options.queues

    @property
    def failure(self) -> BaseException | None:
        """What ended this runner by itself; None while it is well."""
        return self._failure

    @property
    def runner_id(self) -> int:
        """Random; new for every life and whenever the claim connection was lost."""
        return self._identity.runner_id

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
            self._starting = asyncio.create_task(self.start())
            try:
                await asyncio.wait({self._starting})
            except asyncio.CancelledError:
                self._starting.cancel()
                raise
            if self._starting.cancelled():
                return  # by a signal
            self._starting.result()
            try:
                assert self._ended is not None
                await self._ended.wait()
            finally:
                await self.stop()
            if self._failure is not None:
                raise self._failure
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._ended is not None and self._ended.is_set():
            log.warning("%s again: handing back at once", number.name)
            self.hurry()
        else:
            self.end(number.name)

    def end(self, why: str) -> None:
        """Make `run` stop gracefully and return. Returns at once; safe to call again."""
        if self._starting is not None and not self._starting.done():
            log.info("%s: stopping before it has begun", why)
            self._starting.cancel()
        elif self._ended is not None and not self._ended.is_set():
            log.info("%s: stopping, running jobs have %g s", why, self._options.grace)
            self._ended.set()

    def hurry(self) -> None:
        """Let a stop that is under way hand back at once."""
        if self._ended is not None:
            self._stop.hurry.set()

    async def start(self) -> None:
        """Register and begin to claim.

        Raises:
            DatabaseUnavailable, SchemaMissing, SchemaTooOld, SchemaTooNew: before anything is written.
            ConfigError: the script that starts it was imported to run one of its tasks.
        """
        refuse_while_found()
        options = self._options
        self._ended, self._stopping = asyncio.Event(), False
        self._guests = AsyncExitStack()
        self._gate = Gate()
        self._claim_link, self._settle_link = Link(self._dsn, "claim"), Link(self._dsn, "settle")
        self._sequence_link = Link(self._dsn, "sequence")
        self._identity = Identity(
            self._claim_link, self._about(), self._gate, self, self.telemetry, on_end=self._task_ended
        )
        self._lending = Lending(self._dsn, self._identity, self._note_progress)
        self._threads = Threads(options.slots)
        self._children = Children(
            self.app.tasks, self._places, self._dsn, lambda: self.runner_id, quarantine=options.quarantine
        )
        self._executor = Executor(self.app.tasks, self._threads, self.telemetry, self._children)
        self._slots = Slots(options.slots, self._executor, self._lending, self._settle, options.alone)
        deliveries = Deliveries(self.app, lambda: self._sequencer.nudge())
        task_slots = {task.name: task.slots for task in self.app.tasks.values() if task.slots is not None}
        in_processes = [task.name for task in self.app.tasks.values() if task.executor == "process"]
        lanes = Lanes(self._known, deliveries.floors, options.queue_slots, task_slots, (in_processes, options.children))
        self._claimer = Claimer(
            self._claim_link,
            self._slots,
            self._known,
            options.queues,
            options.poll,
            self.telemetry,
            self._gate,
            self._identity,
            on_crowded=self._crowded,
            events=deliveries,
            lanes=lanes,
        )
        self._sequencer = Sequencer(
            self._sequence_link, deliveries.floors, deliveries.horizon, self.telemetry, self._claimer.wake
        )
        self._settler = Settler(self._settle_link, self._identity, self.telemetry, self._claimer, self._gate)
        self._ears = Ears(
            self._dsn,
            self._notified,
            self.telemetry,
            on_heard=lambda: self._lease.heard(),
            around=config.listen_dsn(),
        )
        self._lease = Lease(
            self._dsn,
            options.ttl,
            self._identity,
            self._slots,
            self._gate,
            self.app.tasks,
            lambda: self._ears.listening,
            self.telemetry,
        )
        self._keeping = Housekeeping(
            self._dsn,
            self._settle_link,
            self._slots,
            self._known,
            lambda: self._claimer.queues,
            self._lease.healthy_for,
            options.ttl,
            self.telemetry,
        )
        self._ending = Ending(
            self.app.tasks, self._slots, self._settler, self._claimer, lanes, self._keeping, self.telemetry
        )
        self._stop = Stopping(
            self._gate, self._identity, self._slots, self._settler, self._settle_link, self._keeping, self.telemetry
        )

        try:
            await self._check_database()
            await self._patiently(self._identity.register)
            await self._subscribe()
            visits = [await self._guests.enter_async_context(guest.visit(self)) for guest in self.app.guests]
        except BaseException:
            await self._close()
            raise
        self._lease.start()
        self._slots.start()
        kept = (*self._sequencer.loops, *self._keeping.loops)
        parts = (self._claimer, self._settler, self._ears, self._lease.watch, *kept)
        self._pulses = [*(part.pulse for part in parts), self._lease.pulse]
        for part in parts:
            self._spawn(part.run())
        for coroutine in chain.from_iterable(visits):
            self._spawn(coroutine)
        self.telemetry.emit("runner.started", runner=self.runner_id)

    async def stop(self) -> None:
        """Stop in stages: claim no more, hand back what has not started, let running jobs end for the grace, cancel and hand
        back the rest, write every settlement, say good-bye. Safe to call twice."""
        if self._stopping or self._ended is None:
            return
        self._stopping = True
        self._ended.set()
        await self._stop.stop(self._options.grace)
        await self._lease.stop()
        await self._identity.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._slots.close()
        await self._close()
        for stream in self._error_streams:
            self.telemetry.detach(stream.observe)
            stream.close()
        self._error_streams.clear()

    async def _close(self) -> None:
        await self._guests.aclose()
        await self._children.close()
        await self._lending.close()
        await self._claim_link.close()
        await self._settle_link.close()
        await self._sequence_link.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def errors(self, buffer: int = 100) -> ErrorStream:
        """What goes wrong from now on, as an async iterator of (job, event, exception); may be called often, each has its own.

        It holds at most *buffer* errors: when it is full the oldest is dropped and counted (`dropped`), so it never slows a
        handler. It ends when the runner stops (and is over at once on one that has stopped).
        """
        if buffer < 1:
            raise ConfigError("buffer", f"must be at least 1, got {buffer}")
        stream = ErrorStream(buffer)
        if self._ended is not None and self._stopping:
            stream.close()
            return stream
        self.telemetry.attach(stream.observe)
        self._error_streams.append(stream)
        return stream

    def vitals(self) -> Vitals:
        """How this runner is now, for probes and metrics; asks only this process, never the database."""
        if not self._pulses:
            return Vitals()
        links = (self._claim_link, self._settle_link, self._sequence_link)
        held = ", ".join(sorted(self._gate.reasons))
        return Vitals(
            live=loops(self._pulses, max(link.held_up_until() for link in links)),
            ready=(self._lease.check(), Check("gate", f"it claims nothing now: {held}" if held else None)),
            started=(Check("started"),),
            running=Counter(run.job.queue for run in list(self._slots.running.values())),
            slots=self._options.slots,
            listening=self._ears.listening,
        )

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
                asked = time.monotonic()
                if not self._slots.in_hand:
                    await self._settler.drained()
                    asked = time.monotonic()
                    try:
                        if not await self._settle_link.run(jobs.is_busy, self._known.tasks):
                            await self._keeping.flush()
                            return
                    except (Lost, psycopg.Error):
                        pass  # the link comes back, or the timeout does
                # The question reads all of jobs: on a large table it is asked a tenth of the time.
                await asyncio.sleep(max(0.02, 10 * (time.monotonic() - asked)))

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
            migrate.check(await migrate.installed_async(conn))
        except psycopg.Error as error:
            ours = failures.in_our_words(error, self._dsn)
            raise (ours or error) from error

    async def _subscribe(self) -> None:
        """Make the app's subscriptions known; one that is there differently stays as it is, and a person hears of it."""
        for one in self.app.subscriptions:
            subscribe = partial(self._claim_link.run, events.subscribe, one.declaration)
            if found := await self._patiently(subscribe):
                log.warning(
                    "subscription %s stays as it is: %s; to change it: jobrunner subs apply APP",
                    one.name,
                    differences(found),
                    extra={"subscription": one.name},
                )
                self.telemetry.emit("subscription.differs", subscription=one.name, differences=found)

    async def _patiently(self, step: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Its result, however long somebody (a migration) holds what it needs: a start that gave up would only be tried again."""
        while True:
            try:
                return await step()
            except psycopg.errors.QueryCanceled:
                log.warning("the start waits: a statement of it had no answer in time; is there a lock on our tables?")

    def _about(self) -> runners.Registration:
        return runners.Registration(
            ttl=self._options.ttl,
            slots=self._options.slots,
            app=self.app.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=VERSION,
            queues=self.queues,
            tasks=[task.as_json() for task in self.app.tasks.values()],
            poll=self._options.poll,
        )

    def in_hand(self) -> Iterable[Claimed]:
        """Everything claimed that has no accepted settlement yet."""
        yield from self._slots.jobs()
        yield from self._settler.pending.jobs()

    def let_go(self, ids: set[int]) -> None:
        """Another attempt has these, or will."""
        self._slots.drop(ids)
        for job_id in ids:
            self._slots.interrupt(job_id, HandedBack("lost lease"))

    def _settle(self, job: Claimed, outcome: Outcome) -> None:
        self._ending.settle(job, outcome)

    def _note_progress(self, job_id: int, progress: dict[str, Any]) -> None:
        self._keeping.note_progress(job_id, progress)

    def _crowded(self) -> None:
        self._keeping.crowded()

    def _notified(self, payload: str) -> None:
        if payload == "outbox":
            self._sequencer.nudge()
            return  # what it delivers wakes the claimer
        if payload.startswith("abort "):
            self._lease.heard()  # the beat brings what a person wants stopped
            return
        if payload == "look":
            self._keeping.look()
        self._claimer.wake(payload, by="notify")
