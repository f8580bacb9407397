"""Waiting for a walk over the log: a bar on stderr on a terminal, silence elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobrunner.errors import Conflict, NotFound
from jobrunner.ops.cli import output
from jobrunner.ops.cli.session import Connection, Session
from jobrunner.store import event_overview
from jobrunner.store.event_rows import ReplayRow, Span

_LOOK = 0.5  # seconds
_COUNT = 1.0  # seconds: counting its deliveries reads all of jobs


class Update(Protocol):
    def __call__(self, what: str, done: int, total: int) -> None: ...


def wait_for_walk(session: Session, conn: Connection, walk_id: int) -> None:
    """Returns when the walk is done and, of a replay or rewind, all that it delivered is over: succeeded, cancelled or dead.

    Raises:
        Conflict: somebody cancelled it.
    """
    with _bar(session) as update:
        while (walk := _look(conn, walk_id)).state == "running":
            update(_waits(walk) or f"{walk.kind} {walk.subscription}", walk.processed, walk.total)
            time.sleep(_LOOK)
        if walk.state == "cancelled":
            raise Conflict(f"wait for walk {walk_id}", "somebody cancelled it; see: jobrunner replay list")
        if walk.kind not in ("replay", "rewind"):
            return
        said = False
        while waiting := event_overview.count_open_of_replay(conn, walk.subscription, walk_id):
            update("its deliveries", walk.delivered - waiting, walk.delivered)
            if not said and _look(conn, walk_id).failed:
                session.say(f"note: some of its deliveries are dead; see: jobrunner subs show {walk.subscription}")
                said = True
            time.sleep(_COUNT)


def wait_for_cursor(session: Session, conn: Connection, name: str, span: Span) -> None:
    """Returns when the stream has read up to where the log stood."""
    with _bar(session) as update:
        while True:
            row = event_overview.find_subscription(conn, name)
            if row is None:
                raise NotFound("subscription", name, "somebody removed it meanwhile")
            done = (row.cursor_position or 0) - span.after
            if row.lag_events == 0 or done >= span.upto - span.after:
                return
            update("paused" if row.paused_at else f"rewind {name}", done, span.upto - span.after)
            time.sleep(_COUNT)


def _look(conn: Connection, walk_id: int) -> ReplayRow:
    walk = event_overview.find_replay(conn, walk_id)
    assert walk is not None  # walks are never deleted
    return walk


def _waits(walk: ReplayRow) -> str | None:
    return walk.message if walk.message.startswith("waits") else None


@contextmanager
def _bar(session: Session) -> Iterator[Update]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    shown = output.console(err=True)
    hidden = session.quiet or not shown.is_terminal
    with Progress(*columns, console=shown, transient=True, disable=hidden) as bars:
        task = bars.add_task("", total=None)
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
