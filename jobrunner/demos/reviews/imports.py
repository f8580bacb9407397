"""Rows of reviews.imports: takes the connection first, neither begins nor commits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import class_row

from jobrunner.demos.reviews.source import Source, is_made

Row = TypeVar("Row")

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
"""The tables of the demo; may be applied again."""


@dataclass(frozen=True, slots=True)
class Import:
    """A row of reviews.imports."""

    id: int
    job_id: int
    location: str
    provider_id: str
    path: str
    bytes: int | None

    @property
    def is_unpacked(self) -> bool:
        """The plain lines lie in a file of the import's own, which it removes at its end."""
        return self.path != self.location

    @property
    def is_made(self) -> bool:
        """Its rows are made."""
        return is_made(self.location)


@dataclass(frozen=True, slots=True)
class Totals:
    """How far an import is: lines, blank ones left out."""

    submitted: int
    stored: int
    failed: int
    duplicates: int
    chunks: int
    finished_chunks: int
    lost_chunks: int
    """Chunks whose job is dead or cancelled."""
    problem: str | None
    """What ended one of them."""

    @property
    def passed(self) -> int:
        """Lines that are stored, failed or duplicates."""
        return self.stored + self.failed + self.duplicates


async def add(conn: AsyncConnection[Any], source: Source, path: Path, provider: str) -> int:
    """A new import of *source*; returns its id."""
    cursor = await conn.execute(
        """
        insert into reviews.imports (location, fingerprint, provider_id, path)
        values (%s, %s, %s, %s)
        returning id
        """,
        [source.location, source.fingerprint, provider, str(path)],
    )
    return int((await one(cursor))[0])


async def set_job(conn: AsyncConnection[Any], import_id: int, job_id: int) -> None:
    """The job that carries the import."""
    await conn.execute("update reviews.imports set job_id = %s where id = %s", [job_id, import_id])


async def unfinished(conn: AsyncConnection[Any], source: Source, provider: str) -> int | None:
    """The latest import of the same state of the same source that was submitted and not finished."""
    cursor = await conn.execute(
        """
        select i.id
        from reviews.imports i
        join jobrunner.jobs j on j.id = i.job_id
        where i.location = %s
            and i.fingerprint = %s
            and i.provider_id = %s
            and i.finished_at is null
            and j.state not in ('succeeded', 'cancelled')
        order by i.id desc
        limit 1
        """,
        [source.location, source.fingerprint, provider],
    )
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def requeue(conn: AsyncConnection[Any], import_id: int) -> None:
    """Another life for the dead jobs of an import, by a person who starts it again; audited as any requeue."""
    await conn.execute(
        """
        select jobrunner.op_requeue(
            array(
                select i.job_id from reviews.imports i where i.id = %(id)s
                union all
                select c.job_id from reviews.chunks c where c.import_id = %(id)s
            ),
            _reason => 'the import was started again'
        )
        """,
        {"id": import_id},
    )


async def get(conn: AsyncConnection[Any], import_id: int) -> Import:
    """The import."""
    async with conn.cursor(row_factory=class_row(Import)) as cursor:
        await cursor.execute(
            "select id, job_id, location, provider_id, path, bytes from reviews.imports where id = %s", [import_id]
        )
        return await one(cursor)


async def start(conn: AsyncConnection[Any], import_id: int) -> None:
    """The plain lines are there: the clock of the import runs from the first time this is said."""
    await conn.execute(
        "update reviews.imports set started_at = coalesce(started_at, clock_timestamp()) where id = %s", [import_id]
    )


async def totals(conn: AsyncConnection[Any], import_id: int) -> Totals:
    """How far the import is, by what is committed."""
    async with conn.cursor(row_factory=class_row(Totals)) as cursor:
        await cursor.execute(
            """
            select
                coalesce(sum(c.lines - c.blank), 0)::bigint as submitted,
                coalesce(sum(c.stored), 0)::bigint as stored,
                coalesce(sum(c.failed), 0)::bigint as failed,
                coalesce(sum(c.duplicates), 0)::bigint as duplicates,
                count(*) as chunks,
                count(c.finished_at) as finished_chunks,
                count(*) filter (where c.finished_at is null and j.state in ('dead', 'cancelled')) as lost_chunks,
                min(coalesce(j.error, j.reason)) filter (where j.state in ('dead', 'cancelled')) as problem
            from reviews.chunks c
            left join jobrunner.v_job j on j.id = c.job_id
            where c.import_id = %s
            """,
            [import_id],
        )
        return await one(cursor)


async def finish(conn: AsyncConnection[Any], import_id: int) -> None:
    """All of it is done."""
    await conn.execute("update reviews.imports set finished_at = clock_timestamp() where id = %s", [import_id])


async def one(cursor: AsyncCursor[Row]) -> Row:
    """The row that must be there."""
    row = await cursor.fetchone()
    assert row is not None
    return row
