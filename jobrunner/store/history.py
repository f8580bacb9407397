"""Retention: what is old goes, a day at a time, without making anybody wait. Needs a connection in autocommit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from psycopg import sql
from psycopg.errors import LockNotAvailable

from jobrunner.store.jobs import Connection
from jobrunner.store.queries import query

_OLD = query("old_partitions")
_FREE_DAY = query("free_day")
_DETACH_DAY = query("detach_day")
_FORGET_DAY = query("forget_day")
_DROP_DAY = query("drop_day")
_DROP_DEAD = query("drop_dead")
_DROP_LEFTOVERS = query("drop_leftovers")
_DROP_EVENT_LEFTOVERS = query("drop_event_leftovers")
_LOCK_PATIENCE = 2  # seconds
_PAGE, _DEAD, _MESSAGES = 5000, 1000, 5000

Table: TypeAlias = Literal["finished_jobs", "events"]


@dataclass(frozen=True, slots=True)
class Partition:
    """One day of a table."""

    table: Table
    """Of which table."""
    name: str
    """Its own name, with the day."""
    day: date
    """In UTC."""
    attached: bool
    """Whether it is still a part of it."""
    pending: bool
    """Whether a detach was begun and not finished."""
    ours: bool
    """Whether this session has the rights of its owner."""


async def old_partitions(conn: Connection, table: Table) -> list[Partition]:
    """The days of *table* that are past their time, the oldest first."""
    rows = await (await conn.execute(_OLD, {"table": table})).fetchall()
    return [Partition(table, *row) for row in rows]


async def drop_history(conn: Connection, old: Partition) -> None:
    """Drop one day of finished jobs, and before it what hangs on them, a page at a time.

    Waits 2 s for a lock (50 ms where it is not *ours*), then fails; what was begun is finished by the next call. When two do it at
    once, one of them fails.
    """
    await _detach(conn, old)
    last = 0
    while (
        row := await (await conn.execute(_FORGET_DAY, {"day": old.day, "after": last, "n": _PAGE})).fetchone()
    ) and row[0] is not None:
        last = row[0]
    await _drop(conn, old)


async def drop_log(conn: Connection, old: Partition) -> list[str]:
    """Drop one day of the log, unless somebody needs it: the names of the subscriptions that hold it, none when it is gone.

    What subscriptions with on_lag = release still had to see of it dies here (free_log_v1). Waits and repeats as `drop_history`.
    """
    if old.attached:
        row = await (await conn.execute(_FREE_DAY, {"day": old.day})).fetchone()
        if row is not None and row[0]:
            return list(row[0])
    await _detach(conn, old)
    await _drop(conn, old)
    return []


async def _detach(conn: Connection, old: Partition) -> None:
    if not old.ours:
        await conn.execute(_DETACH_DAY, {"table": old.table, "day": old.day})
        return
    # Concurrently: a plain detach waits for every reader and makes each settle, each step of the sequencer wait behind it.
    detach = sql.SQL("alter table {} detach partition {}").format(
        sql.Identifier("jobrunner", old.table), sql.Identifier("jobrunner", old.name)
    )
    # Our own clock, because a lock_timeout would be one of the session, which behind a transaction pooler is anybody's.
    try:
        async with asyncio.timeout(_LOCK_PATIENCE):
            if old.pending:
                await conn.execute(detach + sql.SQL(" finalize"))
            elif old.attached:
                await conn.execute(detach + sql.SQL(" concurrently"))
    except TimeoutError:
        raise LockNotAvailable(f"{old.name} is in use: not detached within {_LOCK_PATIENCE} s") from None


async def _drop(conn: Connection, old: Partition) -> None:
    await conn.execute(_DROP_DAY, {"table": old.table, "day": old.day})


async def drop_dead(conn: Connection) -> bool:
    """Drop some of the dead jobs that nobody wanted back in all their time; whether there may be more."""
    row = await (await conn.execute(_DROP_DEAD, {"n": _DEAD})).fetchone()
    return bool(row and row[0] >= _DEAD)


async def drop_leftovers(conn: Connection) -> None:
    """Drop what nobody needs any more: tombstones, keys and requests of jobs that are over."""
    await conn.execute(_DROP_LEFTOVERS)


async def drop_event_leftovers(conn: Connection) -> bool:
    """Drop what events leave behind: expired messages, sagas and walks that are over; whether there may be more."""
    row = await (await conn.execute(_DROP_EVENT_LEFTOVERS, {"n": _MESSAGES})).fetchone()
    return bool(row and row[0] >= _MESSAGES)
