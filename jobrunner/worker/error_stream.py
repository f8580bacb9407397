"""Errors of handlers as an async iterator. It never slows a handler: what nobody reads in time is dropped and counted."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple, Self

from jobrunner.policy.envelope import Envelope
from jobrunner.policy.models import Claimed
from jobrunner.worker.context import Context

ERRORS = frozenset({"job.failed", "job.crashed", "job.late_error", "job.invalid", "job.timed_out"})
"""The events of telemetry that carry an exception of a run."""


class JobError(NamedTuple):
    """One run that went wrong."""

    job: Claimed
    """As it was claimed: id, task, attempt, failures so far, …"""
    event: Envelope | None
    """What it handled; None for a call."""
    exception: BaseException
    """What was raised; TimeoutError for a run past its timeout, InvalidArguments for a payload that does not fit; HandlerError,
    which is text, for a run in another process."""


class ErrorStream:
    """An async iterator of `JobError`s, the oldest first; ends when its runner stops, or at `close`.

    Holds at most *buffer* of them: when it is full the oldest is dropped and counted.
    """

    def __init__(self, buffer: int) -> None:
        self.dropped = 0
        """How many nobody read in time."""
        self._errors: deque[JobError] = deque(maxlen=buffer)
        self._news = asyncio.Event()
        self._closed = False

    def observe(self, event: str, n: int, facts: dict[str, Any]) -> None:
        """An observer of telemetry."""
        if event in ERRORS and not self._closed:
            ctx: Context = facts["context"]
            self.dropped += len(self._errors) == self._errors.maxlen
            self._errors.append(JobError(ctx.claimed, ctx.envelope if ctx.cause_event else None, facts["error"]))
            self._news.set()

    def close(self) -> None:
        """No more; what is held can still be read."""
        self._closed = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobError:
        while not self._errors:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._errors.popleft()
