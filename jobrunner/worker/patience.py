"""How long a statement may take before its connection counts as dead: a middlebox that acknowledges for a server that is gone,
or a server that was paused, gives neither an answer nor an error, and no setting of a socket ends the wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection

R = TypeVar("R")
Session: TypeAlias = AsyncConnection[tuple[Any, ...]]

LIMIT = 10.0
"""Seconds for a statement of a loop. Healthy ones take milliseconds; the slowest, over a table full of dead rows, take some."""

LAST_TRY = 2.0
"""Seconds more for the answer to a request to cancel it: a server that lives answers with 57014, and the connection stays."""


class Unanswered(psycopg.OperationalError):
    """No answer, not even to a request to cancel: the connection was cut."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no answer within {seconds:g} s (a server or network that hangs, or a pooler that has no free server connection)"
        )


def sever(conn: psycopg.Connection[Any] | AsyncConnection[Any]) -> None:
    """Cut the socket: whoever waits for an answer gets an error now. A polite good-bye would wait, too. Any thread may call it."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)


async def answered(
    conn: Session, statement: Coroutine[Any, Any, R], seconds: float = LIMIT, last_try: float = LAST_TRY
) -> R:
    """What *statement* returns on *conn*; after *seconds* it is cancelled on the server, and *last_try* later *conn* is cut.

    A caller that is cancelled does not wait, and *conn* is closed. psycopg itself would ask the server to cancel and wait for
    up to ten seconds: longer than a stop may take.

    Raises:
        Unanswered: neither the statement nor the cancellation had an answer.
        psycopg.Error: the statement's own; QueryCanceled when it took too long on a server that lives.
    """
    doing = asyncio.ensure_future(statement)
    doing.add_done_callback(_forget)
    try:
        await asyncio.wait({doing}, timeout=seconds)
        if not doing.done():
            with contextlib.suppress(Exception):
                await conn.cancel_safe(timeout=last_try)
            await asyncio.wait({doing}, timeout=last_try)
        if not doing.done():
            sever(conn)
            await asyncio.wait({doing})
            raise Unanswered(seconds + last_try)
    except asyncio.CancelledError:
        sever(conn)
        # Some turns of the loop. Closed before, it would wait on a socket number that is somebody else's by then.
        await asyncio.wait({doing})
        await conn.close()
        raise
    return doing.result()


def _forget(done: asyncio.Future[Any]) -> None:
    """Nobody may be left who asks for its error, which would then be reported as lost."""
    if not done.cancelled():
        done.exception()


@contextlib.contextmanager
def limited(conn: psycopg.Connection[Any], seconds: float, last_try: float) -> Iterator[None]:
    """The same for a thread: what runs inside on *conn* is cancelled after *seconds*, and cut *last_try* later."""
    over = threading.Event()

    def watch() -> None:
        if not over.wait(seconds):
            with contextlib.suppress(Exception):
                conn.cancel_safe(timeout=last_try)
            if not over.wait(last_try):
                sever(conn)

    threading.Thread(target=watch, name="jobrunner patience", daemon=True).start()
    try:
        yield
    finally:
        over.set()
