"""The session that listens: a wake-up is a hint, never a fact. It proves itself with a notification of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection, sql

CHANNEL = "jobrunner"
"""Where enqueue wakes; the payload is empty, or "look" when what lies below the floors may have become ready."""


class Silent(Exception):
    """Notifications do not arrive: a pooler swallows them, or the connection is dead. The text says which is likely."""


async def is_lent(conn: AsyncConnection[Any]) -> bool:
    """Whether a pooler lends us a server's session: it gives each client a process id of its own invention."""
    return await _backend(conn) != conn.info.backend_pid


async def is_lasting(conn: AsyncConnection[Any], other: AsyncConnection[Any]) -> bool:
    """Whether two clients of a pooler keep their sessions: each is asked which it has while the other one holds its own."""
    async with other.transaction():
        before = await _backend(conn), await _backend(other)
    async with conn.transaction():
        return before == (await _backend(conn), await _backend(other))


async def listen(conn: AsyncConnection[Any], probe: str) -> None:
    """Begin to listen for wake-ups and for this session's own *probe*."""
    await conn.execute(sql.SQL("listen {}").format(sql.Identifier(CHANNEL)))
    await conn.execute(sql.SQL("listen {}").format(sql.Identifier(probe)))


async def _backend(conn: AsyncConnection[Any]) -> int:
    row = await (await conn.execute("select pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])


async def ask(conn: AsyncConnection[Any], probe: str) -> None:
    """Send the notification that proves that notifications arrive."""
    await conn.execute("select pg_notify(%s, '')", [probe])


async def hear(conn: AsyncConnection[Any], probe: str, seconds: float) -> AsyncIterator[str | None]:
    """Payloads of wake-ups for about *seconds*; None for the *probe* that was asked for before: notifications arrive.

    Raises:
        Silent: it did not come in that time.
    """
    heard = False
    async for notification in conn.notifies(timeout=seconds):
        if notification.channel == probe:
            heard = True
            yield None
        else:
            yield notification.payload
    if not heard:
        raise Silent("notifications do not arrive")
