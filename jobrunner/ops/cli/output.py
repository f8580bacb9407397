"""How things look: tables, ages, bars, JSON. Takes values, writes to stdout (data) or stderr (talk)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Protocol

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobrunner.ops.shapes import to_json
from jobrunner.policy.progress import Progress

STYLES = {
    "ready": "cyan",
    "running": "bold blue",
    "scheduled": "default",
    "blocked": "yellow",
    "succeeded": "green",
    "dead": "bold red",
    "cancelled": "dim",
    "dropped": "dim",
    "alive": "green",
    "silent": "bold red",
    "lost": "red",
    "stopped": "dim",
    "renewed": "dim",
    "live": "green",
    "lagging": "yellow",
    "catching_up": "cyan",
    "paused": "yellow",
    "done": "green",
    "passed": "green",
    "unread": "yellow",
    "skipped": "dim",
    "to_come": "cyan",
    "none": "dim",
    "completed": "green",
    "compensated": "dim",
    "compensating": "yellow",
    "stuck": "bold red",
    "needs_attention": "bold red",
    "error": "bold red",
    "warning": "yellow",
    "notice": "cyan",
}

_WIDE = 10_000  # without a terminal nothing is cut: a table goes into a file or through grep


def console(*, err: bool = False) -> Console:
    """Where to print: stdout, or stderr with *err*. Colours only on a terminal, and never with NO_COLOR."""
    file = sys.stderr if err else sys.stdout
    width = None if file.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(file=file, width=width, highlight=False, soft_wrap=False, markup=False)


def write_json(value: object) -> None:
    """*value* on stdout."""
    typer.echo(to_json(value))


def table(*columns: str, rows: Iterable[Sequence[str | Text]], flexible: str, empty: str = "") -> RenderableType:
    """A table without lines; columns that begin with ">" are numbers.

    When the terminal is narrow *flexible* is cut, then columns of nothing but zeros are left out, then other texts are cut.
    """
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    if not cells and empty:
        return Text(empty, style="dim")
    width = console().width
    by_name = {column: [row[n] for row in cells] for n, column in enumerate(columns)}
    spare, gap = max(_longest(flexible, by_name) - _ROOM, 0), 2
    if _width(by_name, gap) - spare > width:
        by_name = {name: told for name, told in by_name.items() if not (name[0] == ">" and _says_nothing(told))}
    if _width(by_name, gap) - spare > width:
        gap = 1
    texts = [name for name in by_name if name[0] != ">"]
    for name in sorted(texts, key=lambda name: (name != flexible, -_longest(name, by_name))):
        room = max(_longest(name, by_name) - max(_width(by_name, gap) - width, 0), _SHORTEST, len(name))
        for cell in by_name[name]:
            cell.truncate(room, overflow="ellipsis")
    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim", show_edge=False)
    for name in by_name:
        made.add_column(name.lstrip(">"), justify="right" if name[0] == ">" else "left", no_wrap=True)
    for row in zip(*by_name.values(), strict=True):
        made.add_row(*row)
    return made


_ROOM, _SHORTEST = 16, 8  # what is left of a text that is cut: where others can give way, and in the end


def _longest(name: str, by_name: Mapping[str, Sequence[Text]]) -> int:
    return max([len(name.lstrip(">")), *(cell.cell_len for cell in by_name[name])])


def _width(by_name: Mapping[str, Sequence[Text]], gap: int) -> int:
    return sum(_longest(name, by_name) + gap for name in by_name) - gap


def _says_nothing(cells: Sequence[Text]) -> bool:
    return all(cell.plain in ("0", "") for cell in cells)


def hanging(lead: Text, text: Text) -> Text:
    """*text* after *lead*; the lines that do not fit, and those of *text* itself, begin below its first."""
    lines = text.wrap(console(), max(console().width - lead.cell_len, 20))
    return Text.assemble(lead, Text(f"\n{'':{lead.cell_len}}").join(lines))


def facts(pairs: Iterable[tuple[str, RenderableType | None]]) -> RenderableType:
    """Names and values, one pair a line; a value of None is left out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            grid.add_row(name, value)
    return grid


def state(name: str, blocked_on: str | None = None) -> Text:
    """A state in its colour, with what it is blocked on."""
    return Text(name if blocked_on is None else f"{name}/{blocked_on}", style=STYLES.get(name, ""))


def count(value: int, style: str = "") -> Text:
    """A number with thousands set apart; zero stays in the background."""
    return Text(f"{value:,}", style=style if value else "dim")


def many(number: int, thing: str) -> str:
    """So many of a thing: "1 job", "1,200 jobs", "2 crashes"."""
    plural = f"{thing}{'es' if thing.endswith(('sh', 's')) else 's'}"
    return f"{number:,} {thing if number == 1 else plural}"


def rough(length: timedelta | None) -> str:
    """*length* as a person says it, in its two largest units: "3m 20s", "2d 4h", "120ms"."""
    if length is None:
        return ""
    if length < timedelta(0):
        return f"-{rough(-length)}"
    if length < timedelta(seconds=1):
        return f"{length // timedelta(milliseconds=1)}ms"
    seconds = int(length.total_seconds())
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next(n for n, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number)


def moment(at: datetime | None, now: datetime) -> str | None:
    """An instant in UTC and how far it is from *now*."""
    if at is None:
        return None
    distance = now - at
    told = f"in {rough(-distance)}" if distance < timedelta(0) else f"{rough(distance)} ago"
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({told})"


def bar(progress: Progress, now: datetime) -> RenderableType:
    """A job's progress as a bar with its numbers, rate and when it will be done."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    numbers = f"{progress.processed:,}" if progress.total is None else f"{progress.processed:,}/{progress.total:,}"
    told = [numbers]
    if progress.percentage is not None:
        told.append(f"{progress.percentage:g} %")
    if progress.failed:
        told.append(f"{progress.failed:,} failed")
    if progress.rate is not None:
        told.append(f"{progress.rate:,.4g}/s" if progress.rate < 1000 else f"{progress.rate:,.0f}/s")
    if progress.estimated_completion is not None and progress.estimated_completion > now:
        told.append(f"done in {rough(progress.estimated_completion - now)}")
    cells: list[RenderableType] = [Text(", ".join(told))]
    if progress.total:
        cells.insert(
            0, ProgressBar(progress.total, progress.processed, width=24, complete_style="cyan", finished_style="green")
        )
    grid.add_row(*cells)
    return grid


def nothing() -> nullcontext[None]:
    """Where there would be a live picture on a terminal."""
    return nullcontext()


class Advance(Protocol):
    def __call__(self, n: int) -> object: ...


@contextmanager
def bulk_bar(what: str, total: int, *, quiet: bool) -> Iterator[Advance]:
    """A bar on stderr for *total* steps, only on a terminal; yields what to call with the steps just done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    shown = console(err=True)
    with Bars(*columns, console=shown, transient=True, disable=quiet or not shown.is_terminal) as bars:
        task = bars.add_task(what, total=total)
        yield lambda n: bars.advance(task, n)
