"""One statement on a connection of the caller's, sync or async, whatever row and cursor factories he chose for it."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.rows import tuple_row


def will_be_prepared(conn: psycopg.BaseConnection[Any]) -> bool:
    """Whether *conn* is inside tpc_begin: a transaction that has notified cannot be prepared, so nobody is woken."""
    return getattr(conn, "_tpc", None) is not None


def rows(conn: Connection[Any], statement: LiteralString, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Every row."""
    return psycopg.Cursor(conn, row_factory=tuple_row).execute(statement, params).fetchall()


async def rows_async(
    conn: AsyncConnection[Any], statement: LiteralString, params: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """Every row."""
    return await (await psycopg.AsyncCursor(conn, row_factory=tuple_row).execute(statement, params)).fetchall()


def one(conn: Connection[Any], statement: LiteralString, params: dict[str, Any]) -> Any:
    """The only value of a statement that always has one."""
    return rows(conn, statement, params)[0][0]


async def one_async(conn: AsyncConnection[Any], statement: LiteralString, params: dict[str, Any]) -> Any:
    """The only value of a statement that always has one."""
    return (await rows_async(conn, statement, params))[0][0]
