"""What a person or a program gets to see: a live bar while the import runs, the figures and the bad lines at its end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from psycopg import AsyncConnection
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from jobrunner.policy.progress import Progress

_NUMBERS = 10  # line numbers listed of each kind of bad line
_FIRST = 3  # of each kind told in full
_TALK = timedelta(seconds=3)  # between two lines where there is no terminal


@dataclass(frozen=True, slots=True)
class Figures:
    """What `--json` prints: submitted = processed + failed + duplicates, always."""

    submitted: int
    """Lines that are not blank."""
    processed: int
    """Stored by this import."""
    failed: int
    """Bad lines, each in reviews.import_errors."""
    duplicates: int
    """Their review_id was stored already."""
    seconds: float
    """From the moment when the plain lines were there to the last commit, by the server's clock; includes a pause between
    a kill and the next start."""
    rows_per_second: float
    """submitted / seconds."""


@dataclass(frozen=True, slots=True)
class Group:
    """Bad lines of one kind."""

    kind: str
    count: int
    lines: list[int]
    """The first line numbers."""
    first: list[tuple[int, str, str]]
    """Line number, message and excerpt of the very first."""


async def figures(conn: AsyncConnection[Any], import_id: int) -> Figures:
    """The figures of a finished import."""
    cursor = await conn.execute(
        """
        select
            coalesce(sum(c.lines - c.blank), 0)::bigint,
            coalesce(sum(c.stored), 0)::bigint,
            coalesce(sum(c.failed), 0)::bigint,
            coalesce(sum(c.duplicates), 0)::bigint,
            extract(epoch from i.finished_at - i.started_at)::float8
        from reviews.imports i
        left join reviews.chunks c on c.import_id = i.id
        where i.id = %s
        group by i.id
        """,
        [import_id],
    )
    row = await cursor.fetchone()
    assert row is not None
    submitted, stored, failed, duplicates, seconds = row
    return Figures(submitted, stored, failed, duplicates, round(seconds, 3), round(submitted / max(seconds, 1e-6), 1))


async def groups(conn: AsyncConnection[Any], import_id: int) -> list[Group]:
    """The bad lines of an import by kind, the commonest first."""
    cursor = await conn.execute(
        """
        select
            k.kind,
            k.count,
            array(
                select e.line
                from reviews.import_errors e
                where e.import_id = %(id)s
                    and e.kind = k.kind
                order by e.line
                limit %(numbers)s
            ),
            (
                select jsonb_agg(jsonb_build_array(f.line, f.message, f.excerpt) order by f.line)
                from (
                    select e.line, e.message, e.excerpt
                    from reviews.import_errors e
                    where e.import_id = %(id)s
                        and e.kind = k.kind
                    order by e.line
                    limit %(first)s
                ) f
            )
        from (
            select e.kind, count(*) as count
            from reviews.import_errors e
            where e.import_id = %(id)s
            group by e.kind
        ) k
        order by k.count desc, k.kind
        """,
        {"id": import_id, "numbers": _NUMBERS, "first": _FIRST},
    )
    return [
        Group(kind, count, lines, [(line, message, excerpt) for line, message, excerpt in first])
        async for kind, count, lines, first in cursor
    ]


async def write_errors(conn: AsyncConnection[Any], import_id: int, path: Path) -> None:
    """All bad lines of an import to *path*, one JSON object a line, streamed."""
    async with conn.transaction(), conn.cursor(name="bad_lines") as cursor:
        await cursor.execute(
            "select line, kind, message, excerpt from reviews.import_errors where import_id = %s order by line",
            [import_id],
        )
        with path.open("w", encoding="utf-8") as file:
            async for line, kind, message, excerpt in cursor:
                told = {"line": line, "kind": kind, "message": message, "excerpt": excerpt}
                file.write(json.dumps(told, ensure_ascii=False) + "\n")


def as_json(found: Figures) -> str:
    """One object."""
    return json.dumps(asdict(found))


def console(*, err: bool) -> Console:
    """stdout, or stderr with *err*; without a terminal nothing is cut or wrapped."""
    file = sys.stderr if err else sys.stdout
    return Console(file=file, width=None if file.isatty() else 1000, highlight=False, markup=False)


def show_figures(out: Console, source: str, found: Figures) -> None:
    """The figures for a person."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim")
    grid.add_column(justify="right")
    grid.add_column(style="dim")
    grid.add_row("submitted", f"{found.submitted:,}", "lines that are not blank")
    grid.add_row("processed", Text(f"{found.processed:,}", "green"), "stored")
    grid.add_row("failed", Text(f"{found.failed:,}", "red" if found.failed else ""), "bad lines")
    grid.add_row("duplicates", f"{found.duplicates:,}", "their review_id was stored already")
    grid.add_row("seconds", f"{found.seconds:,.2f}", f"{found.rows_per_second:,.0f} rows a second")
    out.print(Text(f"\nImported {source}", "bold"))
    out.print(grid)


def show_groups(out: Console, found: list[Group], complete: Path | None) -> None:
    """Bad lines by kind: how many, where, and the first of each."""
    for group in found:
        more = group.count - len(group.lines)
        numbers = ", ".join(map(str, group.lines)) + (f" … and {more:,} more" if more else "")
        lines = "line" if group.count == 1 else "lines"
        out.print(Text.assemble("\n", (group.kind, "bold red"), f": {group.count:,} {lines}: {numbers}"))
        width = len(str(group.first[-1][0]))
        for line, message, excerpt in group.first:
            out.print(
                Text.assemble(f"  {line:>{width}}  {message}  ", (excerpt, "dim")), no_wrap=True, overflow="ellipsis"
            )
    if complete is not None:
        out.print(f"\nAll bad lines: {complete}")
    elif any(group.count > len(group.first) for group in found):
        out.print("\n--errors FILE writes all.", style="dim")


class Show(Protocol):
    """Shows how far the import is now."""

    def __call__(self, now: Progress, /) -> None: ...


@contextmanager
def live(title: str, *, quiet: bool = False) -> Iterator[Show]:
    """A bar on stderr when that is a terminal, else a line every three seconds."""
    err = console(err=True)
    if quiet:
        yield lambda now: None
        return
    if not err.is_terminal:
        yield _talker(err)
        return
    bar = 20 if err.width >= 100 else 10
    room = err.width - len(title) - bar - 2
    columns = (TextColumn("{task.description}"), BarColumn(bar), TextColumn("{task.fields[told]}"))
    with Bars(*columns, console=err, transient=True) as bars:
        task = bars.add_task(title, total=None, told="")

        def show(now: Progress) -> None:
            bars.update(task, total=now.total, completed=now.processed, told=describe(now, room))

        yield show


def _talker(err: Console) -> Show:
    told_at = time.monotonic()

    def show(now: Progress) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TALK.total_seconds():
            told_at = time.monotonic()
            err.print(describe(now))

    return show


def describe(now: Progress, room: int = 1000) -> str:
    """The progress in one line of at most *room* characters: words at its end, and failed lines, are left out for that."""
    parts = []
    if now.percentage is not None:
        parts.append(f"{now.percentage:.1f} %, {now.processed:,} of {now.total:,}{' lines' if room > 100 else ''}")
        if now.failed and room > 100:
            parts.append(f"{now.failed:,} failed")
        if now.rate:
            parts.append(f"{now.rate:,.0f}/s")
        if now.estimated_completion is not None:
            left = max(now.estimated_completion - datetime.now(UTC), timedelta(0))
            if left >= timedelta(seconds=1):
                parts.append(f"{timedelta(seconds=round(left.total_seconds()))} left")
    if now.message:
        parts.append(now.message)
    while len(parts) > 1 and len(", ".join(parts)) > room:
        parts.pop()
    return ", ".join(parts)[: max(room, 0)]
