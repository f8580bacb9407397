"""What people see on a narrow terminal: headings and numbers whole, texts cut, findings in a column of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import pytest
from rich.console import RenderableType

from jobrunner.ops.attention import Attention
from jobrunner.ops.cli import output
from jobrunner.ops.cli.queues import queue_table
from jobrunner.ops.cli.status import finding
from jobrunner.store.rows import QueueRow

BUSY = QueueRow(
    name="images-of-hotels-abroad", ready=72_000, scheduled=1, retrying=1, blocked=2, running=50, dead=8,
    oldest_ready=timedelta(minutes=4, seconds=16), runners=3, paused_at=datetime(2026, 1, 1, tzinfo=UTC),
    paused_by="ann", pause_reason="the disk is full", description=None,
)  # fmt: skip
QUIET = replace(BUSY, scheduled=0, retrying=0, blocked=0, running=0, dead=0)

Shown: TypeAlias = Callable[[int, Callable[[], RenderableType]], list[str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """The lines of something on a terminal of so many columns."""

    def show(width: int, made: Callable[[], RenderableType]) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        output.console().print(made())
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return show


def test_80_columns_hold_every_heading_and_number_of_the_queues(shown: Shown) -> None:
    header, row = shown(80, lambda: queue_table([BUSY]))

    assert header.split() == [
        "queue",
        "ready",
        "scheduled",
        "retrying",
        "blocked",
        "running",
        "dead",
        "oldest",
        "runners",
        "note",
    ]
    assert row.split()[1:9] == ["72,000", "1", "1", "2", "50", "8", "4m", "16s"]
    assert row.endswith("…")
    assert len(row) <= 80


def test_columns_of_zeros_give_way_to_what_there_is_to_say(shown: Shown) -> None:
    header, row, unread = shown(80, lambda: queue_table([QUIET, replace(QUIET, runners=0)]))

    assert header.split() == ["queue", "ready", "oldest", "runners", "note"]
    assert row.startswith("images-of-hotels-abroad ")
    assert row.endswith("  paused by ann: the disk is fu…")
    assert " none " in unread, "that nobody reads it is no zero to leave out"
    assert "scheduled" in shown(200, lambda: queue_table([QUIET]))[0]


def test_a_long_error_pushes_no_number_out(shown: Shown) -> None:
    rows = [("0", "shop.send", "x" * 200)]

    header, row = shown(60, lambda: output.table(">dead", "task", "error", rows=rows, flexible="error"))

    assert header.split() == ["dead", "task", "error"]
    assert (len(row), row[-1]) == (60, "…")


def test_what_a_finding_goes_on_with_stands_below_its_first_word(shown: Shown) -> None:
    one = Attention("no_runner", "error", "", f"{'many words ' * 12}at the end", "jobrunner run APP")

    first, *rest = shown(80, lambda: finding(one))

    assert first.startswith("error    many words")
    assert rest[-1] == f"{'':9}jobrunner run APP"
    assert len(rest) > 1
    assert all(line.startswith(" " * 9) and line[9] != " " for line in rest)
