"""The session that listens: a wake-up is a hint, never a fact. It proves itself with a notification of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection, sql

CHANNEL = "jobrunner"
"""Where enqueue wakes; the payload is empty, or "look" when what lies below the floors may have become ready."""


class Silent(Exception):
    """The session's own notification did not come back: a pooler swallows them, or the connection is dead."""


async def listen(conn: AsyncConnection[Any], probe: str) -> None:
    """Begin to listen for wake-ups and for this session's own *probe*."""
    await conn.execute(sql.SQL("listen {}").format(sql.Identifier(CHANNEL)))
    await conn.execute(sql.SQL("listen {}").format(sql.Identifier(probe)))


async def hear(conn: AsyncConnection[Any], probe: str, seconds: float) -> AsyncIterator[str | None]:
    """Payloads of wake-ups for about *seconds*; None for the session's own probe, the proof that notifications arrive.

    Raises:
        Silent: the probe that was sent first did not come back in that time.
    """
    await conn.execute("select pg_notify(%s, '')", [probe])
    heard = False
    async for notification in conn.notifies(timeout=seconds):
        if notification.channel == probe:
            heard = True
            yield None
        else:
            yield notification.payload
    if not heard:
        raise Silent
