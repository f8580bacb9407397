"""What a handler is given: its job, its progress, its logger, and transactions that are fenced by its claim.

(long because: one transaction in two colours, async and sync)
"""

from __future__ import annotations

import json
import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, Connection

from jobrunner.errors import ConfigError, OutOfBounds, StaleLease
from jobrunner.policy.envelope import Envelope, tree_of
from jobrunner.policy.models import Claimed, Json
from jobrunner.policy.outcomes import CancelRequested, HandedBack
from jobrunner.policy.text import clean
from jobrunner.store.calls import ADVANCE_STREAM, FENCE, FINISH_IN_PLACE, NAME_CAUSE

log = logging.getLogger("jobrunner.job")

_MESSAGE_BYTES = 1000  # of a progress message


class Lender(Protocol):
    """What a context needs of its runner."""

    @property
    def runner_id(self) -> int:
        """Under which id the job is held now."""

    async def lend_async(self) -> AsyncConnection[Any]:
        """A connection in autocommit for one transaction of an async handler."""

    async def take_back_async(self, conn: AsyncConnection[Any]) -> None:
        """It is not needed any more; may be broken."""

    def lend(self) -> Connection[Any]:
        """A connection in autocommit for one transaction of a sync handler; called on its thread."""

    def take_back(self, conn: Connection[Any]) -> None:
        """It is not needed any more; may be broken."""

    def note_progress(self, job_id: int, progress: dict[str, Any]) -> None:
        """Write this soon; callable from any thread."""


class Context:
    """One run of one job, from the inside."""

    __slots__ = (
        "_envelope",
        "_headers",
        "_job",
        "_lender",
        "_logger",
        "_progress",
        "cancelled",
        "fenced",
        "finished",
        "stopped",
    )

    def __init__(self, job: Claimed, lender: Lender, *, fenced: bool = True) -> None:
        self._job = job
        self._lender = lender
        self._envelope: Envelope | None = None
        self._headers: dict[str, Json] | None = None
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None
        self._progress: dict[str, Any] | None = None
        self.cancelled = False
        """True when this run should end: its timeout, the end of a shutdown's grace, a lost lease, or a person's request. An
        async handler also gets CancelledError; a sync one has to look here."""
        self.stopped: CancelRequested | HandedBack | None = None
        """Why somebody stopped this run: a person asked for it, or the runner cannot go on with it."""
        self.fenced = fenced
        """Whether a claim stands behind this run; `app.dispatch` has none."""
        self.finished = False
        """True once `transaction()` has ended the job: nothing that happens later changes the outcome."""

    @property
    def claimed(self) -> Claimed:
        """The row as it was claimed."""
        return self._job

    @property
    def job_id(self) -> int:
        """The same through every retry: the natural idempotency key."""
        return self._job.id

    @property
    def runner_id(self) -> int:
        """Under which id its runner holds it now."""
        return self._lender.runner_id

    @property
    def task(self) -> str:
        """Full name of the task."""
        return self._job.task

    @property
    def queue(self) -> str:
        """Where it was claimed."""
        return self._job.queue

    @property
    def key(self) -> str | None:
        """What orders it, if anything."""
        return self._job.key

    @property
    def attempt(self) -> int:
        """Starts so far, this one counted."""
        return self._job.attempt

    @property
    def failures(self) -> int:
        """Failures so far."""
        return self._job.failures

    @property
    def crashes(self) -> int:
        """Runners that were lost under it, and processes of its own that it has killed."""
        return self._job.crashes

    @property
    def max_attempts(self) -> int:
        """Failures after which it is dead."""
        return self._job.max_attempts

    @property
    def headers(self) -> dict[str, Json]:
        """What was sent beside the arguments."""
        if self._headers is None:
            self._headers = json.loads(self._job.headers) if self._job.headers else {}
        return self._headers

    @property
    def created_at(self) -> datetime:
        """When it was enqueued."""
        return self._job.created_at

    @property
    def correlation_id(self) -> UUID:
        """One id for the whole tree that a fact caused: the event's, the headers' own, or made from the root job's id."""
        if self._job.event is not None:
            return self._job.event.correlation_id
        given = self.headers.get("correlation_id")
        if isinstance(given, str):
            try:
                return UUID(given)
            except ValueError:
                pass
        return tree_of(self._job.id)

    @property
    def envelope(self) -> Envelope:
        """The event that this run handles.

        Raises:
            ConfigError: it handles none: the job is a call, or a batch (see `envelopes`).
        """
        if self._envelope is None:
            if self._job.event is None:
                raise ConfigError(
                    "ctx.envelope", f"is there for subscriptions only, and {self.task} runs a call or a batch"
                )
            self._envelope = Envelope.of(self._job.event, replay="replay" in self.headers)
        return self._envelope

    @property
    def envelopes(self) -> list[Envelope]:
        """The events of a stream's batch, in order; the one event of a delivery; none of a call."""
        if self._job.batch is None:
            return [] if self._job.event is None else [self.envelope]
        return [Envelope.of(event, replay=False) for event in self._job.batch.events]

    @property
    def cause_event(self) -> UUID | None:
        """The id of the event that what this run publishes was caused by."""
        return None if self._job.event is None else self._job.event.event_id

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that adds job, task and attempt to every record."""
        if self._logger is None:
            self._logger = _JobLogger(
                log, {"job_id": self._job.id, "task": self._job.task, "attempt": self._job.attempt}
            )
        return self._logger

    def progress(
        self,
        processed: int | None = None,
        *,
        total: int | None = None,
        failed: int | None = None,
        message: str | None = None,
    ) -> None:
        """Say how far the job is, in absolute numbers; what is not given stays as it was said last.

        Never blocks and may be called as often as you like: the latest is written four times a second and at the end.

        Raises:
            OutOfBounds: a number that is not whole, negative or over 2**63 - 1.
        """
        # Checked here: one bad row would keep the progress of every other job from being written.
        numbers: dict[str, object] = {"processed": processed, "total": total, "failed": failed}
        for name, value in numbers.items():
            if value is not None and (not isinstance(value, int) or not 0 <= value < 2**63):
                raise OutOfBounds(f"the progress of job {self._job.id}: {name}", value, "a whole number from 0")
        if self._progress is None:
            self._progress = {"id": self._job.id, "total": None, "processed": 0, "failed": 0, "message": None}
        said = None if message is None else clean(str(message), _MESSAGE_BYTES)
        self._progress |= {name: value for name, value in {**numbers, "message": said}.items() if value is not None}
        self._lender.note_progress(self._job.id, self._progress.copy())

    def transaction(self, *, final: bool = True) -> Lent:
        """A connection in a transaction that commits only while this run holds the job. `async with` in an async handler
        (a psycopg AsyncConnection), `with` in a sync one (a Connection).

        *final*: leaving it without an exception also ends the job, in the same commit: the writes happen exactly once. It
        may be left once; what the handler does later cannot change the outcome. Not *final*: the commit does not end the
        job, and there may be many.

        Raises, on leaving:
            StaleLease: the claim is gone; everything in the transaction is rolled back.
        """
        return Lent(self, self._lender, self._job, final=final)


class Lent:
    """The connection of one `ctx.transaction()`; sync or async, as it is entered."""

    __slots__ = ("_begun", "_conn", "_ctx", "_final", "_job", "_lender")

    def __init__(self, ctx: Context, lender: Lender, job: Claimed, *, final: bool) -> None:
        self._ctx, self._lender, self._job, self._final = ctx, lender, job, final
        self._conn: Any = None
        self._begun: Any = None

    def _check(self) -> None:
        if self._ctx.finished:
            raise ConfigError("ctx.transaction()", f"has already ended job {self._job.id}: it can be left once")
        if self._ctx.cancelled:
            raise StaleLease(self._job.id, self._job.attempt)

    def _cause(self) -> dict[str, str]:
        event = self._ctx.cause_event
        return {
            "id": str(self._job.id),
            "event": "" if event is None else str(event),
            "correlation": str(self._ctx.correlation_id),
        }

    def _fences(self) -> list[tuple[Any, dict[str, Any]]]:
        """What has to hold for the commit: statements that answer with a yes or a no."""
        if not self._ctx.fenced:
            return []
        params = {"runner": self._lender.runner_id, "id": self._job.id, "attempt": self._job.attempt}
        if not self._final:
            return [(FENCE, params)]
        finish: list[tuple[Any, dict[str, Any]]] = [(FINISH_IN_PLACE, params)]
        if (batch := self._job.batch) is not None:
            moved = {"name": self._job.task, "from_after": batch.from_after, "upto": batch.upto}
            finish.insert(0, (ADVANCE_STREAM, moved))
        return finish

    async def __aenter__(self) -> AsyncConnection[tuple[Any, ...]]:
        self._check()
        self._conn = await self._lender.lend_async()
        try:
            self._begun = self._conn.transaction()
            await self._begun.__aenter__()
            if self._ctx.fenced:
                await self._conn.execute(NAME_CAUSE, self._cause())
        except BaseException:
            await self._lender.take_back_async(self._conn)
            raise
        conn: AsyncConnection[tuple[Any, ...]] = self._conn
        return conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                try:
                    self._check()
                    for fence in self._fences():
                        held = await (await self._conn.execute(*fence)).fetchone()
                        if not held[0]:
                            raise StaleLease(self._job.id, self._job.attempt)
                except BaseException as refused:
                    await self._begun.__aexit__(type(refused), refused, refused.__traceback__)
                    raise
            await self._begun.__aexit__(kind, error, trace)
            self._ctx.finished = self._ctx.finished or (self._final and error is None)
        finally:
            await self._lender.take_back_async(self._conn)

    def __enter__(self) -> psycopg.Connection[tuple[Any, ...]]:
        self._check()
        self._conn = self._lender.lend()
        try:
            self._begun = self._conn.transaction()
            self._begun.__enter__()
            if self._ctx.fenced:
                self._conn.execute(NAME_CAUSE, self._cause())
        except BaseException:
            self._lender.take_back(self._conn)
            raise
        conn: psycopg.Connection[tuple[Any, ...]] = self._conn
        return conn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                try:
                    self._check()
                    for fence in self._fences():
                        held = self._conn.execute(*fence).fetchone()
                        if not held[0]:
                            raise StaleLease(self._job.id, self._job.attempt)
                except BaseException as refused:
                    self._begun.__exit__(type(refused), refused, refused.__traceback__)
                    raise
            self._begun.__exit__(kind, error, trace)
            self._ctx.finished = self._ctx.finished or (self._final and error is None)
        finally:
            self._lender.take_back(self._conn)


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


current: ContextVar[Context | None] = ContextVar("jobrunner_context", default=None)
"""The run that this code is part of: what it enqueues was caused by it."""
