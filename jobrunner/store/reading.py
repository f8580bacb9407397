"""How a statement is read on a sync connection: rows as values whose fields are the columns, one of them, or one column of one."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.rows import class_row, scalar_row

Connection: TypeAlias = psycopg.Connection[Any]
T = TypeVar("T")


def rows(conn: Connection, kind: type[T], statement: Any, params: dict[str, Any]) -> list[T]:
    """All rows."""
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(statement, params).fetchall()


def first(conn: Connection, kind: type[T], statement: Any, params: dict[str, Any]) -> T | None:
    """The first row, or None."""
    return next(iter(rows(conn, kind, statement, params)), None)


def value(conn: Connection, statement: Any, params: dict[str, Any]) -> Any:
    """The first column of the first row; None when there is no row."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement, params).fetchone()
