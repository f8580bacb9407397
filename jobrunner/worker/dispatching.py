"""The in-process bus: an event straight to the subscribers of this app, in the caller: no outbox, no log, no retries."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, overload
from uuid import UUID, uuid4

from psycopg import AsyncConnection, Connection
from psycopg.pq import TransactionStatus

from jobrunner.errors import ConfigError
from jobrunner.policy.events import Event, publication
from jobrunner.policy.models import Claimed, Json, encode
from jobrunner.policy.recorded import Batch, Recorded
from jobrunner.policy.topics import matches
from jobrunner.worker.context import Context, current
from jobrunner.worker.registry import Registry
from jobrunner.worker.stream import Stream
from jobrunner.worker.subscription import Subscription
from jobrunner.worker.task import Runnable


class Guest:
    """Lends the caller's own connection: `ctx.transaction()` is a savepoint in it, and commits nothing."""

    runner_id = 0

    def __init__(self, conn: Connection[Any] | AsyncConnection[Any] | None) -> None:
        self._conn = conn

    def note_progress(self, job_id: int, progress: dict[str, Any]) -> None:
        """Nobody looks."""

    def lend(self) -> Connection[Any]:
        """The caller's connection, for a sync handler."""
        if not isinstance(self._conn, Connection):
            raise _no_connection("a psycopg Connection", "sync")
        if _would_begin(self._conn):
            self._conn.execute("select")  # so that the handler's block is a savepoint, and the commit the caller's
        return self._conn

    def take_back(self, conn: Connection[Any]) -> None:
        """It stays the caller's."""

    async def lend_async(self) -> AsyncConnection[Any]:
        """The caller's connection, for an async handler."""
        if not isinstance(self._conn, AsyncConnection):
            raise _no_connection("a psycopg AsyncConnection", "async")
        if _would_begin(self._conn):
            await self._conn.execute("select")
        return self._conn

    async def take_back_async(self, conn: AsyncConnection[Any]) -> None:
        """It stays the caller's."""


def _would_begin(conn: Connection[Any] | AsyncConnection[Any]) -> bool:
    """Whether the next statement of *conn* begins a transaction that its owner ends."""
    return not conn.autocommit and conn.info.transaction_status is TransactionStatus.IDLE


def _no_connection(kind: str, colour: str) -> ConfigError:
    return ConfigError(
        "ctx.transaction()", f"needs {kind} in a {colour} handler that was dispatched: app.dispatch(event, conn)"
    )


class Dispatching(Registry):
    """What an app can do without a database."""

    @overload
    def dispatch(
        self, event: Event, conn: Connection[Any] | None = None, *, headers: Mapping[str, Json] | None = None
    ) -> None: ...

    @overload
    def dispatch(
        self, event: Event, conn: AsyncConnection[Any], *, headers: Mapping[str, Json] | None = None
    ) -> Awaitable[None]: ...

    def dispatch(
        self,
        event: Event,
        conn: Connection[Any] | AsyncConnection[Any] | None = None,
        *,
        headers: Mapping[str, Json] | None = None,
    ) -> Awaitable[None] | None:
        """Run the subscribers of *event* (with *headers*), one after another as they were declared, here and now.

        The first error is raised and ends it. *conn* is lent to `ctx.transaction()` as a savepoint: what handlers write commits
        or not with your transaction (on an autocommit connection outside of one, each commits by itself). Nothing is recorded,
        delivered to other services or tried again. What handlers answer (Retry, Snooze, …) means nothing. An awaitable on an
        async connection; without one an async handler is run to its end, which inside an event loop is an error: there
        `await app.dispatch_async(event)`.

        Raises:
            ConfigError: the event's class has no name, a handler cannot be run here, or it wants a connection that it has not got.
            Whatever a handler raises.
        """
        if isinstance(conn, AsyncConnection):
            return self.dispatch_async(event, conn, headers=headers)
        for one, run, arguments in self._runs(event, conn, headers or {}):
            if one.is_async:
                _run_to_its_end(run, one, arguments)
            else:
                contextvars.copy_context().run(_call, run, one, arguments)
        return None

    async def dispatch_async(
        self,
        event: Event,
        conn: Connection[Any] | AsyncConnection[Any] | None = None,
        *,
        headers: Mapping[str, Json] | None = None,
    ) -> None:
        """`dispatch` in an event loop: async handlers are awaited, sync ones called. Raises what `dispatch` raises."""
        for one, run, arguments in self._runs(event, conn, headers or {}):
            token = current.set(run)
            try:
                answer = _handler(one)(run, **arguments)
                if one.is_async:
                    await answer
            finally:
                current.reset(token)

    def _runs(
        self, event: Event, conn: Connection[Any] | AsyncConnection[Any] | None, headers: Mapping[str, Json]
    ) -> Iterator[tuple[Runnable, Context, dict[str, Any]]]:
        recorded = self._recorded(event, headers)
        for one in self.subscriptions:
            wanted = one.declaration.match or {}
            if matches(recorded.type, one.declaration.types) and all(
                headers.get(name) == value for name, value in wanted.items()
            ):
                job = _as_claimed(one, recorded)
                yield one, Context(job, Guest(conn), fenced=False), one.read(job)

    def _recorded(self, event: Event, headers: Mapping[str, Json]) -> Recorded:
        """*event* as a row of the log that never was: position 0."""
        made, now, event_id = publication(event), datetime.now(UTC), uuid4()
        ctx = current.get()
        correlation: UUID = ctx.correlation_id if ctx else event_id
        return Recorded(
            position=0,
            recorded_at=now,
            event_id=event_id,
            type=made.type,
            version=made.version,
            source=self.name,
            subject=made.subject,
            key=made.key,
            occurred_at=now,
            data=json.dumps(made.data),
            headers=encode(headers, made.type, root="headers"),
            correlation_id=correlation,
            cause_event=ctx.cause_event if ctx else None,
            cause_job_id=(ctx.job_id or None) if ctx else None,
        )


def _as_claimed(one: Subscription[Any, Any], event: Recorded) -> Claimed:
    now = event.occurred_at
    return Claimed(
        id=0, task=one.name, version=event.version, queue=one.queue, priority=0, seq=0, attempt=1, failures=0, crashes=0,
        max_attempts=1, key=None, args="{}", headers=None, run_at=now, created_at=now, started_at=now, event=event,
        batch=Batch(0, 0, [event]) if isinstance(one, Stream) else None,
    )  # fmt: skip


def _handler(one: Runnable) -> Callable[..., Any]:
    """What was decorated: here is no cursor that a stream would move."""
    return one.handler if isinstance(one, Stream) else one.function


def _call(run: Context, one: Runnable, arguments: dict[str, Any]) -> None:
    current.set(run)
    _handler(one)(run, **arguments)


def _run_to_its_end(run: Context, one: Runnable, arguments: dict[str, Any]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise ConfigError(
            f"subscription {one.name}", "is async, and an event loop runs here: await app.dispatch_async(event)"
        )

    async def main() -> None:
        current.set(run)
        await _handler(one)(run, **arguments)

    asyncio.run(main())
