"""The event side of an app that reads: the history of an entity, payloads as instances, and messages from outside, once each."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, overload

from psycopg import AsyncConnection, Connection

from jobrunner.errors import ConfigError, OutOfBounds
from jobrunner.policy.durations import duration
from jobrunner.policy.envelope import Envelope
from jobrunner.policy.events import Event
from jobrunner.policy.models import check_name
from jobrunner.policy.recorded import Recorded
from jobrunner.store.events import ENTITY_EVENTS, TAKE_MESSAGE
from jobrunner.worker.registry import Registry
from jobrunner.worker.statements import one, one_async, rows, rows_async


class Reading(Registry):
    """What an app can ask of events on a connection of the caller's. Never begins or commits."""

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
        return bool(one(conn, TAKE_MESSAGE, params))

    def parse(self, envelope: Envelope) -> Event:
        """The event of an envelope as an instance of its class, upcast and validated; the classes of this app are known.

        Raises:
            ConfigError: this app has no class for its type.
            InvalidArguments: the payload does not fit.
        """
        cls = next((one.classes[envelope.type] for one in self.subscriptions if envelope.type in one.classes), None)
        cls = cls or self.published.get(envelope.type)
        if cls is None:
            problem = f"has no class in app {self.name}: subscribe to it, or app.publishes(…) it"
            raise ConfigError(f"event {envelope.type}", problem)
        return self._upcasters.instance(
            cls, envelope.version, json.dumps(dict(envelope.data)), reader=f"app {self.name}"
        )


def _envelope(row: tuple[Any, ...]) -> Envelope:
    return Envelope.of(Recorded(*row), replay=False)


async def _envelopes_async(conn: AsyncConnection[Any], params: dict[str, Any]) -> list[Envelope]:
    return [_envelope(row) for row in await rows_async(conn, ENTITY_EVENTS, params)]


async def _took_async(conn: AsyncConnection[Any], params: dict[str, Any]) -> bool:
    return bool(await one_async(conn, TAKE_MESSAGE, params))
