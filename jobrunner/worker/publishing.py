"""The event side of an app that writes and reads in the caller's transaction: publish, read an entity's history, the inbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, overload
from uuid import UUID

from psycopg import AsyncConnection, Connection

from jobrunner.policy.envelope import traced
from jobrunner.policy.events import Event, publication
from jobrunner.policy.models import Json
from jobrunner.store.publishing import PUBLISH, PUBLISH_MANY, Origin, publish_many_params, publish_params
from jobrunner.worker.bulk import many, many_async
from jobrunner.worker.context import current
from jobrunner.worker.registry import Registry
from jobrunner.worker.statements import one, one_async, will_be_prepared


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
        *progress* is called with how many are written, after each 5,000, while no statement is under way. On an autocommit
        connection without a transaction each 5,000 commit by themselves; in a transaction it is all or nothing. While the server
        writes 5,000, the next are drawn from *events*, which may read from *conn*.

        Raises: what `publish` raises. Earlier chunks are then written: roll back.
        """
        origin = self._origin(source)

        def params(chunk: list[Event]) -> dict[str, Any]:
            return publish_many_params(
                [publication(event, subject=subject) for event in chunk],
                headers or {},
                origin,
                notify=not will_be_prepared(conn),
            )

        if isinstance(conn, AsyncConnection):
            return many_async(conn, PUBLISH_MANY, events, params, progress)
        return many(conn, PUBLISH_MANY, events, params, progress)

    def _origin(self, source: str | None) -> Origin:
        ctx = current.get()
        if ctx is None:
            return Origin(source or self.name)
        beside = ctx.envelopes[0].headers if ctx.cause_event else ctx.headers
        return Origin(source or self.name, ctx.correlation_id, ctx.job_id or None, ctx.cause_event, traced(beside))
