"""Retention: what is old goes, a day at a time, without making anybody wait."""

from __future__ import annotations

from psycopg import sql

from jobrunner.store.jobs import Connection
from jobrunner.store.queries import query

_OLD = query("old_partitions")
_FORGET = query("forget_partition")
_DROP_DEAD = query("drop_dead")
_DROP_LEFTOVERS = query("drop_leftovers")
_LOCK_PATIENCE = "2s"


async def retain(conn: Connection) -> int:
    """Drop the partitions of the history, the dead jobs and the tombstones that are past their time; returns partitions dropped.

    Needs autocommit. Detach first, concurrently: a plain drop would wait for every reader and make each settle wait behind it.
    One that was interrupted is finished by the next call. Safe to run from several places.
    """
    dropped = 0
    await conn.execute(sql.SQL("set lock_timeout = {}").format(_LOCK_PATIENCE))
    try:
        for name, attached, pending in await (await conn.execute(_OLD)).fetchall():
            partition = sql.Identifier("jobrunner", name)
            if pending:
                await conn.execute(
                    sql.SQL("alter table jobrunner.finished_jobs detach partition {} finalize").format(partition)
                )
            elif attached:
                await conn.execute(
                    sql.SQL("alter table jobrunner.finished_jobs detach partition {} concurrently").format(partition)
                )
            # What hangs on those jobs goes first: after the drop nobody would know which rows they were.
            await conn.execute(sql.SQL(_FORGET).format(partition=partition))
            await conn.execute(sql.SQL("drop table {}").format(partition))
            dropped += 1
        while (row := await (await conn.execute(_DROP_DEAD, {"n": 1000})).fetchone()) and row[0] >= 1000:
            pass
        await conn.execute(_DROP_LEFTOVERS)
    finally:
        await conn.execute("reset lock_timeout")
    return dropped
