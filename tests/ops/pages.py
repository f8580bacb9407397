"""A page of docs that runs: its blocks of SQL in order, on a real database, each compared with what the page says it shows.

Between two blocks the page may say `<!-- meanwhile: … -->`; a test does that deed. In a shown result `…` stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Connection

DOCS = Path(__file__).resolve().parents[2] / "docs"

PART = re.compile(
    r"<!-- meanwhile: (?P<deed>.*?) -->|```sql\n(?P<sql>.*?)```\n(?:```text\n(?P<shown>.*?)```\n)?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that the page does: what happens meanwhile, or a block with what it shows."""

    deed: str | None
    sql: str | None
    shown: str | None


def parts(page: str) -> list[Part]:
    return [Part(found["deed"], found["sql"], found["shown"]) for found in PART.finditer((DOCS / page).read_text())]


def cell(value: object) -> str:
    """A value as psql writes it."""
    match value:
        case None:
            return ""
        case bool():
            return "t" if value else "f"
        case list():
            return f"{{{','.join(map(cell, value))}}}"
        case _:
            return str(value)


def table(shown: str) -> list[list[str]]:
    """The cells of a table as psql draws it, its head first."""
    lines = [line for line in shown.splitlines() if not re.fullmatch(r"[-+]+", line)]
    return [[each.strip() for each in line.split("|")] for line in lines]


def run(conn: Connection, sql: str) -> list[list[str]]:
    """What the last statement of a block shows, its head first."""
    cursor = conn.execute(sql.encode())
    while cursor.nextset():
        pass
    if cursor.description is None:
        return []
    return [
        [column.name for column in cursor.description],
        *[[cell(each) for each in row] for row in cursor.fetchall()],
    ]


def check(conn: Connection, page: str, deeds: Mapping[str, Callable[[], object]]) -> None:
    """Goes through *page*; the test fails where it shows something else than *conn* does."""
    for part in parts(page):
        if part.deed is not None:
            deeds[part.deed]()
        elif part.sql is not None and part.shown is not None and part.shown.startswith("ERROR"):
            with pytest.raises(psycopg.Error) as refused:
                run(conn, part.sql)
            assert f"ERROR: {refused.value.diag.message_primary}\n" == part.shown
        elif part.sql is not None:
            found = run(conn, part.sql)
            if part.shown is not None:
                wanted = table(part.shown)
                seen = [
                    [w if _fits(w, f) else f for w, f in zip(row, got, strict=True)]
                    for row, got in zip(wanted, found, strict=False)
                ]
                assert seen + found[len(wanted) :] == wanted, part.sql


def _fits(wanted: str, found: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, wanted.split("…"))), found, re.DOTALL) is not None
