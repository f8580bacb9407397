"""One run: takes a claimed job and its task, returns an outcome. Knows nothing of SQL; every way a handler can end is here."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from jobrunner.errors import HandlerError, InvalidArguments, InvalidJob, StaleLease
from jobrunner.policy.durations import brief
from jobrunner.policy.lifecycle import (
    Answer,
    Cancel,
    Crashed,
    Failed,
    FinishedInPlace,
    HandedBack,
    InvalidPayload,
    Outcome,
    Reject,
    Retry,
    Snooze,
    Succeeded,
    TimedOut,
)
from jobrunner.policy.models import Claimed, encode
from jobrunner.policy.text import describe
from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.children import Children
from jobrunner.worker.context import Context, current
from jobrunner.worker.task import Runnable

DONE = Succeeded()
"""What nearly every run returns."""


class Executor:
    """Runs handlers: coroutines on the loop, plain functions in threads, and what *children* take in processes."""

    def __init__(
        self,
        tasks: dict[str, Runnable],
        threads: concurrent.futures.Executor,
        telemetry: Telemetry,
        children: Children | None = None,
    ) -> None:
        self._tasks, self._threads, self._telemetry, self._children = tasks, threads, telemetry, children

    def isolates(self, job: Claimed) -> bool:
        """Whether *job* has to run in a process that nobody else uses."""
        return self._children is not None and self._children.isolates(job)

    async def run(self, job: Claimed, ctx: Context, settle: Callable[[Outcome | None], None]) -> None:
        """Run *job* and call *settle* with its outcome, once; returns when the handler has returned.

        For a sync handler past its timeout, or cancelled, that is later than the settlement: a thread cannot be stopped.
        Cancelling this coroutine cancels the handler; if it lets that happen, the outcome is None: the caller knows why.
        """
        task = self._tasks[job.task]
        if (refused := task.refuse(job)) is not None:
            settle(refused)
            return
        if self._children is not None and self._children.takes(job):
            await self._run_in_child(self._children, task, job, ctx, settle)
            return
        try:
            arguments = task.read(job)
        except InvalidArguments as error:
            self._emit("job.invalid", ctx, error)
            settle(InvalidPayload(describe(error)))
            return

        current.set(ctx)
        if not task.is_async:
            await self._run_in_thread(task, ctx, arguments, settle)
            return
        try:
            if task.timeout is None:
                answer = await task.function(ctx, **arguments)
            else:
                async with asyncio.timeout(task.timeout.total_seconds()) as limit:
                    answer = await task.function(ctx, **arguments)
        except BaseException as error:  # a handler that raises SystemExit fails its job, not the runner
            if task.timeout is not None and limit.expired():
                ctx.cancelled = True
                settle(self._timed_out(ctx, task.timeout))
            elif isinstance(error, asyncio.CancelledError) and _is_cancelled():
                settle(None)
                raise
            else:
                settle(self._failed(task, ctx, error))
        else:
            settle(answered(ctx, answer))

    async def _run_in_child(
        self,
        children: Children,
        task: Runnable,
        job: Claimed,
        ctx: Context,
        settle: Callable[[Outcome | None], None],
    ) -> None:
        try:
            outcome = await children.run(job, ctx, task.timeout)
        except asyncio.CancelledError:
            settle(None)
            raise
        match outcome:
            case Failed(error):
                self._emit("job.failed", ctx, HandlerError(error.type, error.message, error.traceback))
            case Crashed(error):
                self._emit("job.crashed", ctx, HandlerError(error.type, error.message, error.traceback))
            case InvalidPayload(error):
                self._emit("job.invalid", ctx, HandlerError(error.type, error.message, error.traceback))
            case TimedOut(after):
                ctx.cancelled = True
                outcome = self._timed_out(ctx, after)
        settle(outcome)

    async def _run_in_thread(
        self, task: Runnable, ctx: Context, arguments: dict[str, Any], settle: Callable[[Outcome | None], None]
    ) -> None:
        run = contextvars.copy_context().run

        def call() -> tuple[Any, BaseException | None]:
            try:
                return run(task.function, ctx, **arguments), None
            except BaseException as error:  # as a value: a future cannot carry StopIteration
                return None, error

        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        limit = task.timeout
        try:
            await asyncio.wait([future], timeout=None if limit is None else limit.total_seconds())
        except asyncio.CancelledError:
            limit = None
        if not future.done():
            ctx.cancelled = True  # its later transactions are refused
            settle(None if limit is None else self._timed_out(ctx, limit))
            await asyncio.wait([future])
            if (late := future.result()[1]) is not None:
                self._late(ctx, late)
            return
        answer, error = future.result()
        settle(answered(ctx, answer) if error is None else self._failed(task, ctx, error))

    def _failed(self, task: Runnable, ctx: Context, error: BaseException) -> Outcome:
        if ctx.finished:
            self._late(ctx, error)
            return FinishedInPlace()
        if isinstance(error, StaleLease):
            return HandedBack(
                "lost lease"
            )  # not its fault; and where the lease is gone indeed, the settlement is refused
        self._emit("job.failed", ctx, error)
        return Failed(describe(error), task.retry.rule_for(error, ctx.claimed))

    def _timed_out(self, ctx: Context, limit: timedelta) -> Outcome:
        if ctx.finished:
            return FinishedInPlace()
        self._emit("job.timed_out", ctx, TimeoutError(f"still running after {brief(limit)}"))
        return TimedOut(limit)

    def _emit(self, event: str, ctx: Context, error: BaseException) -> None:
        self._telemetry.emit(event, job=ctx.job_id, task=ctx.task, error=error, context=ctx)

    def _late(self, ctx: Context, error: BaseException) -> None:
        self._emit("job.late_error", ctx, error)
        log.error(
            "job %s raised after its outcome was settled",
            ctx.job_id,
            exc_info=error,
            extra={"job_id": ctx.job_id, "task": ctx.task},
        )


def answered(ctx: Context, answer: Any) -> Outcome:
    """What a handler's *answer* means."""
    if ctx.finished:
        return FinishedInPlace()
    if answer is None:
        return DONE
    if isinstance(answer, Retry | Snooze | Cancel | Reject):
        reply: Answer = answer
        return reply
    try:
        encode({"result": answer}, ctx.task, root="result")
    except InvalidJob as error:
        # Its effects have happened: the job succeeded, and a repetition would do them twice.
        log.warning(
            "the result of job %s was not kept: %s",
            ctx.job_id,
            error,
            extra={"job_id": ctx.job_id, "task": ctx.task},
        )
        return DONE
    return Succeeded(answer)


def _is_cancelled() -> bool:
    me = asyncio.current_task()
    return me is not None and me.cancelling() > 0
