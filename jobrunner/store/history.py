"""Retention: what is old goes, a day at a time, without making anybody wait. Needs a connection in autocommit."""

from __future__ import annotations

from psycopg import sql

from jobrunner.store.jobs import Connection
from jobrunner.store.queries import query

_OLD = query("old_partitions")
_FORGET = query("forget_partition")
_DROP_DEAD = query("drop_dead")
_DROP_LEFTOVERS = query("drop_leftovers")
_LOCK_PATIENCE = "2s"
_PAGE, _DEAD = 5000, 1000


async def old_partitions(conn: Connection) -> list[tuple[str, bool, bool]]:
    """The days of the history that are past their time: (name, still attached, detach begun and not finished)."""
    return [(name, attached, pending) for name, attached, pending in await (await conn.execute(_OLD)).fetchall()]


async def drop_partition(conn: Connection, name: str, attached: bool, pending: bool) -> None:
    """Drop one day, and before it what hangs on its jobs, a page at a time.

    Detach first, concurrently: a plain drop would wait for every reader and make each settle wait behind it. Waits 2 s for
    a lock, then fails; what was begun is finished by the next call. When two do it at once, one of them fails.
    """
    partition = sql.Identifier("jobrunner", name)
    detach = sql.SQL("alter table jobrunner.finished_jobs detach partition {}").format(partition)
    await conn.execute(sql.SQL("set lock_timeout = {}").format(_LOCK_PATIENCE))
    try:
        if pending:
            await conn.execute(detach + sql.SQL(" finalize"))
        elif attached:
            await conn.execute(detach + sql.SQL(" concurrently"))
        forget, last = sql.SQL(_FORGET).format(partition=partition), 0
        while (row := await (await conn.execute(forget, {"after": last, "n": _PAGE})).fetchone()) and row[
            0
        ] is not None:
            last = row[0]
        await conn.execute(sql.SQL("drop table if exists {}").format(partition))
    finally:
        await conn.execute("reset lock_timeout")


async def drop_dead(conn: Connection) -> bool:
    """Drop some of the dead jobs that nobody wanted back in all their time; whether there may be more."""
    row = await (await conn.execute(_DROP_DEAD, {"n": _DEAD})).fetchone()
    return bool(row and row[0] >= _DEAD)


async def drop_leftovers(conn: Connection) -> None:
    """Drop what nobody needs any more: tombstones, keys and requests of jobs that are over."""
    await conn.execute(_DROP_LEFTOVERS)
