"""A task of procrastinate as what a runner runs: called as its own worker calls it, with context and middlewares."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

from procrastinate.job_context import AbortReason, JobContext
from procrastinate.tasks import Task

from jobrunner.errors import InvalidArguments
from jobrunner.policy.models import Claimed, Job, Json
from jobrunner.policy.outcomes import CancelRequested, Outcome
from jobrunner.procrastinate.crew import Crew
from jobrunner.procrastinate.strategy import Strategy, job_of
from jobrunner.worker.context import Context


class Handler:
    """One name of one task (a task has another one for each of its aliases)."""

    version = 1
    timeout: timedelta | None = None
    on_lease_uncertain: Literal["cancel", "continue"] = "cancel"
    slots: int | None = None
    executor: Literal["default", "process"] = "default"
    is_async = True
    """Of sync tasks too: they run in threads of their own, so that an abort can wait for them as procrastinate's worker does."""

    def __init__(self, name: str, task: Task[Any, Any, Any], crew: Crew) -> None:
        Job(name, queue=task.queue, priority=task.priority)  # what no task here can have is refused now
        self.name, self.queue = name, task.queue
        self.retry = Strategy(task, crew.loads)
        self._task, self._crew = task, crew
        self._is_async = inspect.iscoroutinefunction(task.func)
        self.function: Callable[..., Any] = self._run
        """What is called with the context and the arguments."""

    def get_ready(self) -> None:
        """Choose how the task is called, now that the middlewares are known."""
        plain = self._is_async and not self._task.pass_context and not self._crew.worker_middleware
        self.function = _plain(self._task.func) if plain and not self._middlewares() else self._run

    def refuse(self, job: Claimed) -> Outcome | None:
        """Nothing is: the arguments have no version, and what does not fit is an error of the call, as in procrastinate."""
        return None

    def read(self, job: Claimed) -> dict[str, Any]:
        """The arguments by name, not validated.

        Raises:
            InvalidArguments: they are no JSON object.
        """
        try:
            arguments = self._crew.loads(job.args)
        except ValueError as error:
            raise InvalidArguments(self.name, [str(error)]) from None
        if not isinstance(arguments, dict):
            raise InvalidArguments(self.name, ["the arguments must be a JSON object"])
        return arguments

    def as_json(self) -> dict[str, Json]:
        """What the tasks table is told."""
        return {
            "name": self.name,
            "version": self.version,
            "queue": self.queue,
            "priority": self._task.priority,
            "max_attempts": self.retry.attempts,
            "retry": {},
        }

    async def _run(self, ctx: Context, /, **arguments: Any) -> None:
        """As procrastinate's worker does: its middlewares on the loop, the task's around the task, where that runs."""
        context = self._context(ctx, arguments)
        call = functools.partial(self._task.func, *([context] if self._task.pass_context else []), **arguments)

        async def awaited() -> Any:
            return await call()

        async def run_job() -> Any:
            if self._is_async:
                answer = await self._composed(self._middlewares(), awaited, context)()
            else:
                answer = await self._in_thread(self._composed(self._middlewares(), call, context))
            return await answer if inspect.isawaitable(answer) else answer

        await self._composed(
            self._crew.worker_middleware, run_job, context
        )()  # what it returns procrastinate keeps nowhere

    def _middlewares(self) -> list[Callable[..., Any]]:
        """The worker's that are of the task's kind, outermost; then the task's own."""
        own: list[Callable[..., Any]] = getattr(self._task, "task_middleware", [])
        return [each for each in self._crew.task_middleware if _is_async(each) == self._is_async] + own

    def _composed(
        self, middlewares: Sequence[Callable[..., Any]], innermost: Callable[[], Any], context: JobContext
    ) -> Callable[[], Any]:
        call = innermost
        for each in reversed(middlewares):
            call = functools.partial(each, call, context, self._crew.worker)
        return call

    def _context(self, ctx: Context, arguments: dict[str, Any]) -> JobContext:
        worker = self._crew.worker

        def abort_reason() -> AbortReason | None:
            if not ctx.cancelled:
                return None
            return AbortReason.USER_REQUEST if isinstance(ctx.stopped, CancelRequested) else AbortReason.SHUTDOWN

        return JobContext(
            app=self._crew.app,
            worker_name=None if worker is None else worker.worker_name,
            worker_queues=None if worker is None else worker.queues,
            additional_context=self._crew.additional_context.copy(),
            job=job_of(ctx.claimed, arguments, ctx.runner_id),
            abort_reason=abort_reason,
            start_timestamp=time.time(),
        )

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        run = contextvars.copy_context().run

        def kept() -> tuple[Any, BaseException | None]:
            try:
                return run(call), None
            except BaseException as error:  # as a value: a future cannot carry StopIteration
                return None, error

        future = asyncio.get_running_loop().run_in_executor(self._crew.threads, kept)
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            # A thread cannot be stopped: it looks at should_abort(), and how it ends is how the job ends. At the end of the
            # runner there is a second cancellation.
            await asyncio.wait([future])
        answer, error = future.result()
        if error is not None:
            raise error
        return answer


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(_: Context, /, **arguments: Any) -> None:
        await function(**arguments)

    return run


def _is_async(middleware: Callable[..., Any]) -> bool:
    while isinstance(middleware, functools.partial):
        middleware = middleware.func
    return inspect.iscoroutinefunction(middleware) or inspect.iscoroutinefunction(getattr(middleware, "__call__", None))  # noqa: B004
