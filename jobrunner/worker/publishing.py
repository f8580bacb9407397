"""The event side of an app that writes and reads in the caller's transaction: publish, read an entity's history, the inbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any, overload
from uuid import UUID

from psycopg import AsyncConnection, Connection

from jobrunner.errors import OutOfBounds
from jobrunner.policy.durations import duration
from jobrunner.policy.events import Envelope, Event, publication
from jobrunner.policy.models import Json, check_name
from jobrunner.policy.recorded import Recorded
from jobrunner.store.events import ENTITY_EVENTS, TAKE_MESSAGE
from jobrunner.store.publishing import PUBLISH, PUBLISH_MANY, Origin, publish_many_params, publish_params
from jobrunner.worker.context import current
from jobrunner.worker.registry import Registry
from jobrunner.worker.statements import one, one_async, rows, rows_async, will_be_prepared

_CHUNK = 5000  # events in one statement of publish_many, as of enqueue_many


class Publishing(Registry):
    """What an app can do with events on a connection of the caller's. Never begins or commits."""

    @overload
    def publish(
        self,
        conn: Connection[Any],
        event: Event,
        *,
        key: str | None = None,
        subject: str | None = None,
        headers: Mapping[str, Json] | None = None,
        source: str | None = None,
        event_id: UUID | None = None,
    ) -> UUID: ...

    @overload
    def publish(
        self,
        conn: AsyncConnection[Any],
        event: Event,
        *,
        key: str | None = None,
        subject: str | None = None,
        headers: Mapping[str, Json] | None = None,
        source: str | None = None,
        event_id: UUID | None = None,
    ) -> Awaitable[UUID]: ...

    def publish(
        self,
        conn: Connection[Any] | AsyncConnection[Any],
        event: Event,
        *,
        key: str | None = None,
        subject: str | None = None,
        headers: Mapping[str, Json] | None = None,
        source: str | None = None,
        event_id: UUID | None = None,
    ) -> UUID | Awaitable[UUID]:
        """Write *event* in the caller's transaction and return its id; an awaitable on an async connection.

        Atomic with everything else in the transaction. *key* and *subject* instead of what its class says; *source*: the app's
        name unless given. Inside a handler it is caused by what the handler handles, and carries its traceparent on.

        Raises, before any SQL:
            InvalidJob: names or a payload that the database would refuse.
            ConfigError: the event's class has no name.
        """
        params = publish_params(
            publication(event, key=key, subject=subject),
            headers or {},
            self._origin(source),
            event_id=event_id,
            notify=not will_be_prepared(conn),
        )
        if isinstance(conn, AsyncConnection):
            return one_async(conn, PUBLISH, params)
        published: UUID = one(conn, PUBLISH, params)
        return published

    @overload
    def publish_many(
        self,
        conn: Connection[Any],
        events: Iterable[Event],
        *,
        subject: str | None = None,
        headers: Mapping[str, Json] | None = None,
        source: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[UUID]: ...

    @overload
    def publish_many(
        self,
        conn: AsyncConnection[Any],
        events: Iterable[Event],
        *,
        subject: str | None = None,
        headers: Mapping[str, Json] | None = None,
        source: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Awaitable[list[UUID]]: ...

    def publish_many(
        self,
        conn: Connection[Any] | AsyncConnection[Any],
        events: Iterable[Event],
        *,
        subject: str | None = None,
        headers: Mapping[str, Json] | None = None,
        source: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[UUID] | Awaitable[list[UUID]]:
        """Write *events*, an aggregate's uncommitted ones or thousands of any, in the caller's transaction; their ids in order.

        Their order is their order in the log. *subject*, *headers* and *source* are of all of them; the key comes from each.
        *progress* is called with how many are written, after each 5,000. On an autocommit connection without a transaction each
        5,000 commit by themselves; in a transaction it is all or nothing.

        Raises: what `publish` raises. Earlier chunks are then written: roll back.
        """
        if isinstance(conn, AsyncConnection):
            return self._publish_many_async(conn, events, subject, headers, source, progress)
        ids: list[UUID] = []
        for params in self._event_chunks(conn, events, subject, headers, source):
            ids += one(conn, PUBLISH_MANY, params)
            if progress:
                progress(len(ids))
        return ids

    async def _publish_many_async(
        self,
        conn: AsyncConnection[Any],
        events: Iterable[Event],
        subject: str | None,
        headers: Mapping[str, Json] | None,
        source: str | None,
        progress: Callable[[int], None] | None,
    ) -> list[UUID]:
        ids: list[UUID] = []
        for params in self._event_chunks(conn, events, subject, headers, source):
            ids += await one_async(conn, PUBLISH_MANY, params)
            if progress:
                progress(len(ids))
        return ids

    def _event_chunks(
        self,
        conn: Connection[Any] | AsyncConnection[Any],
        events: Iterable[Event],
        subject: str | None,
        headers: Mapping[str, Json] | None,
        source: str | None,
    ) -> Iterator[dict[str, Any]]:
        rest, origin = iter(events), self._origin(source)
        while chunk := list(islice(rest, _CHUNK)):
            yield publish_many_params(
                [publication(event, subject=subject) for event in chunk],
                headers or {},
                origin,
                notify=not will_be_prepared(conn),
            )

    def _origin(self, source: str | None) -> Origin:
        ctx = current.get()
        if ctx is None:
            return Origin(source or self.name)
        beside = ctx.envelopes[0].headers if ctx.cause_event else ctx.headers
        traced = {name: beside[name] for name in ("traceparent", "tracestate") if name in beside}
        return Origin(source or self.name, ctx.correlation_id, ctx.job_id or None, ctx.cause_event, traced)

    @overload
    def events(
        self, conn: Connection[Any], *, key: str, after: int = 0, types: str | None = None, limit: int = 10_000
    ) -> list[Envelope]: ...

    @overload
    def events(
        self, conn: AsyncConnection[Any], *, key: str, after: int = 0, types: str | None = None, limit: int = 10_000
    ) -> Awaitable[list[Envelope]]: ...

    def events(
        self,
        conn: Connection[Any] | AsyncConnection[Any],
        *,
        key: str,
        after: int = 0,
        types: str | None = None,
        limit: int = 10_000,
    ) -> list[Envelope] | Awaitable[list[Envelope]]:
        """One entity's history: the recorded events of *key* behind the position *after*, oldest first, at most *limit*.

        To rebuild an entity, fold over them; `parse` makes an instance of each. An event is recorded some milliseconds after its
        commit. *types*: only events of types that match this pattern.
        """
        params = {"key": key, "after": after, "types": None if types is None else [types], "limit": limit}
        if isinstance(conn, AsyncConnection):
            return _envelopes_async(conn, params)
        return [_envelope(row) for row in rows(conn, ENTITY_EVENTS, params)]

    @overload
    def inbox(
        self, conn: Connection[Any], message_id: str, *, consumer: str, expires: str | float | timedelta = "7d"
    ) -> bool: ...

    @overload
    def inbox(
        self, conn: AsyncConnection[Any], message_id: str, *, consumer: str, expires: str | float | timedelta = "7d"
    ) -> Awaitable[bool]: ...

    def inbox(
        self,
        conn: Connection[Any] | AsyncConnection[Any],
        message_id: str,
        *,
        consumer: str,
        expires: str | float | timedelta = "7d",
    ) -> bool | Awaitable[bool]:
        """Whether *consumer* takes this message from outside for the first time; remembered in the caller's transaction.

        What you do with it belongs into the same transaction: then a second delivery of the message does nothing, and a
        crash between the two forgets both. While another transaction takes the same message this one waits for it. After
        *expires* the message counts as new. Above READ COMMITTED a message that was taken meanwhile is error 40001: repeat.

        Raises, before any SQL:
            BadName, OutOfBounds: a consumer, message id or length of time that cannot be.
        """
        check_name("consumer", consumer, 200)
        check_name("message_id", message_id, 512)
        length = duration(expires, what="expires")
        if not length:
            raise OutOfBounds("expires", expires, "longer than zero")
        params = {"consumer": consumer, "message_id": message_id, "expires": length}
        if isinstance(conn, AsyncConnection):
            return _took_async(conn, params)
        return bool(rows(conn, TAKE_MESSAGE, params))


def _envelope(row: tuple[Any, ...]) -> Envelope:
    return Envelope.of(Recorded(*row), replay=False)


async def _envelopes_async(conn: AsyncConnection[Any], params: dict[str, Any]) -> list[Envelope]:
    return [_envelope(row) for row in await rows_async(conn, ENTITY_EVENTS, params)]


async def _took_async(conn: AsyncConnection[Any], params: dict[str, Any]) -> bool:
    return bool(await rows_async(conn, TAKE_MESSAGE, params))
