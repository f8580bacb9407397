"""What a handler meets in a test: its context, the test's connection in its own colour, and the executor that runs it here.

A run lies in a savepoint: what it wrote goes when it raises, but for what its `ctx.transaction()` has committed, as in production.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from jobrunner.errors import ConfigError, InvalidArguments
from jobrunner.policy.models import Claimed
from jobrunner.policy.outcomes import InvalidPayload, Outcome
from jobrunner.policy.text import describe
from jobrunner.telemetry import Telemetry
from jobrunner.testing.connections import Async, Either, Sync, async_twin, sync_twin
from jobrunner.worker.context import Context, Lent, current
from jobrunner.worker.error_stream import ERRORS
from jobrunner.worker.executor import Executor, answered
from jobrunner.worker.task import Runnable

BEGIN = "savepoint jobrunner_run"
KEEP = "release savepoint jobrunner_run"
UNDO = "rollback to savepoint jobrunner_run"


class Host:
    """Lends the one connection of a test, in the colour of the handler that asks; see `Lender`."""

    def __init__(self, conn: Either, runner_id: int) -> None:
        self.runner_id = runner_id
        self._conn, self._progress = conn, dict[int, dict[str, Any]]()
        self._alone = threading.Lock()

    def note_progress(self, job_id: int, progress: dict[str, Any]) -> None:
        """Kept until the run has ended."""
        self._progress[job_id] = progress

    def said(self) -> list[dict[str, Any]]:
        """What was noted since this was asked last."""
        noted, self._progress = list(self._progress.values()), {}
        return noted

    def lend(self) -> Sync:
        """For a sync handler."""
        return sync_twin(self._conn)

    def take_back(self, conn: Sync) -> None:
        """It stays the test's."""

    @contextmanager
    def lend_for_a_statement(self) -> Iterator[Sync]:
        """For one that production would commit by itself: it stays when the run raises, and its own failure spoils nothing."""
        with self._alone:
            conn = sync_twin(self._conn)
            with conn.transaction():
                yield conn
            conn.execute(f"{KEEP}; {BEGIN}")

    async def lend_async(self) -> Async:
        """For an async handler."""
        return async_twin(self._conn)

    async def take_back_async(self, conn: Async) -> None:
        """It stays the test's."""


class Rehearsal(Context):
    """A context whose transactions count as committed when they are left."""

    __slots__ = ()

    def transaction(self, *, final: bool = True) -> Lent:
        """As of `Context`."""
        return _Kept(self, self._lender, self._job, final=final)


class _Kept(Lent):
    __slots__ = ()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if error is None:
            await self._conn.execute(f"{KEEP}; {BEGIN}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self._conn.execute(f"{KEEP}; {BEGIN}")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run has ended."""

    outcome: Outcome
    """What the executor says."""
    error: BaseException | None
    """What it raised."""


class Inhouse(Executor):
    """The executor of a test: sync handlers in the caller's thread where that is no event loop, async ones run to their end."""

    def __init__(self, tasks: Mapping[str, Runnable]) -> None:
        self._one = ThreadPoolExecutor(
            1, "jobrunner test"
        )  # starts no thread until a sync handler is run in an event loop
        self._error: BaseException | None = None
        telemetry = Telemetry()
        telemetry.attach(self._observe)
        super().__init__(dict(tasks), self._one, telemetry)

    def close(self) -> None:
        """End its thread."""
        self._one.shutdown()

    def run_here(self, job: Claimed, ctx: Context) -> Ended:
        """Run *job* to its end.

        Raises:
            ConfigError: the handler is async and an event loop runs in this thread.
        """
        task = self._tasks[job.task]
        if not task.is_async:
            self._error = None
            return Ended(contextvars.copy_context().run(self._call, task, job, ctx), self._error)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.run_async(job, ctx))
        problem = "is async, and an event loop runs here: drain an AsyncConnection, `await drain(conn, app)`"
        raise ConfigError(f"the handler of {task.name}", problem)

    async def run_async(self, job: Claimed, ctx: Context) -> Ended:
        """Run *job* to its end in this event loop: exactly as a runner does it, timeout included."""
        self._error = None
        outcomes: list[Outcome | None] = []
        await asyncio.create_task(self.run(job, ctx, outcomes.append))  # a task has a context of its own
        (outcome,) = outcomes
        assert outcome is not None  # without one it was cancelled, which is raised
        return Ended(outcome, self._error)

    def _call(self, task: Runnable, job: Claimed, ctx: Context) -> Outcome:
        if (refused := task.refuse(job)) is not None:
            return refused
        try:
            arguments = task.read(job)
        except InvalidArguments as error:
            self._emit("job.invalid", ctx, error)
            return InvalidPayload(describe(error))
        current.set(ctx)
        try:
            answer = task.function(ctx, **arguments)
        except BaseException as error:
            return self._failed(task, ctx, error)
        return answered(ctx, answer)

    def _observe(self, event: str, n: int, facts: dict[str, Any]) -> None:
        if event in ERRORS:
            self._error = self._error or facts["error"]


@dataclass(frozen=True, slots=True)
class Due:
    """One run that is to happen now."""

    executor: Inhouse
    """By whom."""
    job: Claimed
    """Of what."""
    ctx: Context
    """What its handler is given."""

    def run_here(self) -> Ended:
        """Run it in this thread."""
        return self.executor.run_here(self.job, self.ctx)

    async def run_async(self) -> Ended:
        """Run it in this event loop."""
        return await self.executor.run_async(self.job, self.ctx)
