"""Thousands of calls or events in one statement; while the server writes them, the next are made here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection, Connection

from jobrunner.worker.statements import one, one_async

T = TypeVar("T")

CHUNK = 5000
"""Calls or events in one statement: beyond it the rate no longer grows, and memory does."""

HEAD_START = 0.001
"""Seconds in which a statement gets on its way; to make the next chunk holds the interpreter and would keep it here."""


def many(
    conn: Connection[Any],
    statement: LiteralString,
    items: Iterable[T],
    params: Callable[[list[T]], dict[str, Any]],
    progress: Callable[[int], None] | None,
) -> list[Any]:
    """The lists that *statement* has of the chunks of *items*, as one; *progress* is called with how long it is, after each.

    *items*, *params* and *progress* run in the caller's thread; a second one waits for the server, unless one chunk holds all.
    What *items* does on *conn* waits for the statement under way, because a connection does one thing at a time. The error of a
    statement comes before that of a later item.
    """
    found: list[Any] = []
    chunks = _chunks(items)
    first = next(chunks, [])
    if len(first) < CHUNK:
        return _noted(one(conn, statement, params(first)), found, progress) if first else found

    with ThreadPoolExecutor(1, "jobrunner-bulk") as second:
        written: Future[list[Any]] = second.submit(one, conn, statement, params(first))
        try:
            wait([written], HEAD_START)
            for chunk in chunks:
                ready = params(chunk)
                _noted(written.result(), found, progress)
                written = second.submit(one, conn, statement, ready)
                wait([written], HEAD_START)
        except Exception:
            written.result()
            raise
        except BaseException:  # a signal; psycopg too cancels a statement in which it is interrupted
            if not written.done():
                with suppress(psycopg.Error):
                    conn.cancel_safe(timeout=5)
            raise
        return _noted(written.result(), found, progress)


async def many_async(
    conn: AsyncConnection[Any],
    statement: LiteralString,
    items: Iterable[T],
    params: Callable[[list[T]], dict[str, Any]],
    progress: Callable[[int], None] | None,
) -> list[Any]:
    """The same on an async connection, where a task waits for the server."""
    found: list[Any] = []
    chunks = _chunks(items)
    first = next(chunks, [])
    if len(first) < CHUNK:
        return _noted(await one_async(conn, statement, params(first)), found, progress) if first else found

    written: asyncio.Task[list[Any]] = asyncio.create_task(one_async(conn, statement, params(first)))
    try:
        await asyncio.wait([written], timeout=HEAD_START)
        for chunk in chunks:
            ready = params(chunk)
            _noted(await written, found, progress)
            written = asyncio.create_task(one_async(conn, statement, ready))
            await asyncio.wait([written], timeout=HEAD_START)
        return _noted(await written, found, progress)
    except Exception:
        await written
        raise
    except BaseException:
        written.cancel()
        await asyncio.wait([written])
        raise


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _noted(answer: list[Any], found: list[Any], progress: Callable[[int], None] | None) -> list[Any]:
    found += answer
    if progress:
        progress(len(found))
    return found
