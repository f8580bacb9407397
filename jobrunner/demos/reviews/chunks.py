"""Rows of reviews.chunks and what they bring: takes the connection first, neither begins nor commits.

A chunk's counters and cursor move in the transaction that stores its rows, so whoever continues finds them true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from jobrunner.demos.reviews.imports import Import, one
from jobrunner.demos.reviews.lines import Block, Range
from jobrunner.demos.reviews.model import BadLine, Checked, Kind, as_json, bad_line

_ROW_REFUSED = ("22", "23", "54", "P0")
"""Classes of SQLSTATE that are about the data of a row: those that reviews.store_each catches."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row of reviews.chunks, as far as reading it needs."""

    import_id: int
    number: int
    cursor_byte: int
    end_byte: int
    next_line: int


async def add(
    conn: AsyncConnection[Any], import_id: int, size: int, ranges: Sequence[Range], jobs: Sequence[int | None]
) -> None:
    """The chunks of an import, numbered from 1, and the size of the file that they divide."""
    await conn.execute("update reviews.imports set bytes = %s where id = %s", [size, import_id])
    async with conn.cursor() as cursor:
        await cursor.executemany(
            """
            insert into reviews.chunks (
                import_id, number, job_id, first_byte, end_byte, first_line, lines, cursor_byte
            )
            values (%s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [
                (import_id, number, job_id, part.start, part.end, part.first_line, part.lines, part.start)
                for number, (part, job_id) in enumerate(zip(ranges, jobs, strict=True), 1)
            ],
        )


async def get(conn: AsyncConnection[Any], import_id: int, number: int) -> Chunk:
    """Where a chunk goes on."""
    async with conn.cursor(row_factory=class_row(Chunk)) as cursor:
        await cursor.execute(
            """
            select import_id, number, cursor_byte, end_byte, first_line + passed as next_line
            from reviews.chunks
            where import_id = %s
                and number = %s
            """,
            [import_id, number],
        )
        return await one(cursor)


def is_refused_row(error: psycopg.Error) -> bool:
    """Whether *error* is about the data of a row: a lost connection or a deadlock is not the row's fault."""
    return error.sqlstate is not None and error.sqlstate.startswith(_ROW_REFUSED)


async def store_all(conn: AsyncConnection[Any], whose: Import, chunk: Chunk, checked: Checked) -> None:
    """The rows of a block, its bad lines, and the chunk's cursor behind it; fails as a whole when a row is refused."""
    stored = 0
    if checked.good:
        reviews = as_json([review for _, review in checked.good])
        cursor = await conn.execute("select reviews.store(%s, %s, %s)", [whose.provider_id, whose.id, reviews])
        (stored,) = await one(cursor)
    await _advance(conn, chunk, checked.block, stored, len(checked.good) - stored, checked.bad)


async def store_what_can_be(conn: AsyncConnection[Any], whose: Import, chunk: Chunk, checked: Checked) -> None:
    """As `store_all`, but a row that the database refuses fails alone."""
    texts = dict(checked.block.texts)
    bad, stored = list(checked.bad), 0
    cursor = await conn.execute(
        "select place, stored, problem from reviews.store_each(%s, %s, %s)",
        [whose.provider_id, whose.id, [as_json([review])[1:-1] for _, review in checked.good]],
    )
    async for place, new, problem in cursor:
        stored += new
        if problem is not None:
            number = checked.good[place - 1][0]
            bad.append(bad_line(number, Kind.REFUSED, problem, texts[number]))
    duplicates = len(checked.block.texts) - stored - len(bad)
    await _advance(conn, chunk, checked.block, stored, duplicates, bad)


async def _advance(
    conn: AsyncConnection[Any], chunk: Chunk, block: Block, stored: int, duplicates: int, bad: Sequence[BadLine]
) -> None:
    if bad:
        await conn.execute(
            """
            insert into reviews.import_errors (import_id, line, kind, message, excerpt)
            select %s, e.line, e.kind, e.message, e.excerpt
            from unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) e (line, kind, message, excerpt)
            """,
            [
                chunk.import_id,
                [one.line for one in bad],
                [str(one.kind) for one in bad],
                [one.message for one in bad],
                [one.excerpt for one in bad],
            ],
        )
    await conn.execute(
        """
        update reviews.chunks
        set cursor_byte = %s,
            passed = passed + %s,
            blank = blank + %s,
            stored = stored + %s,
            failed = failed + %s,
            duplicates = duplicates + %s
        where import_id = %s
            and number = %s
        """,
        [block.end, block.lines, block.blank, stored, len(bad), duplicates, chunk.import_id, chunk.number],
    )


async def finish(conn: AsyncConnection[Any], chunk: Chunk) -> None:
    """The chunk is done; refused by a CHECK when a line of it is not accounted for."""
    await conn.execute(
        "update reviews.chunks set finished_at = clock_timestamp() where import_id = %s and number = %s",
        [chunk.import_id, chunk.number],
    )
