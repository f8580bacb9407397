"""procrastinate's own tables, as the place that jobs are moved out of; docs/procrastinate.md says by which rules.

All but `find`, `linger`, `take_turn` and `enter` belong into a transaction that began with `enter`. Times out on a lock after 2 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from jobrunner.store.queries import query
from jobrunner.store.reading import Connection, first, rows, value

_FIND = query("adopt_procrastinate_find")
_LINGER = query("adopt_procrastinate_linger")
_TURN = query("adopt_procrastinate_turn")
_ENTER = query("adopt_procrastinate_enter")
_COLUMNS = query("adopt_procrastinate_columns")
_CLOSE = query("adopt_procrastinate_close")
_WRITERS = query("adopt_procrastinate_writers")
_PICK = query("adopt_procrastinate_pick")
_MOVE = query("adopt_procrastinate_move")
_MARKS = query("adopt_procrastinate_marks")
_OPEN = query("adopt_procrastinate_open")
_COUNTS = query("adopt_procrastinate_counts")
_UNDONE = query("adopt_procrastinate_undone")
_PREVIEW = query("adopt_procrastinate_preview")


@dataclass(frozen=True, slots=True)
class Place:
    """How far a round has come, in the order in which procrastinate runs its jobs: larger priorities first, then by id."""

    priority: int = 2_147_483_647
    id: int = 0


@dataclass(frozen=True, slots=True)
class Picked:
    """Jobs that are held now: *ids*, of the *seen* ones up to *priority* and *id*, which are None where there were none."""

    ids: Sequence[int]
    seen: int
    priority: int | None
    id: int | None


@dataclass(frozen=True, slots=True)
class Judged:
    """One picked job: moved (and *gone* there), or left by running, open, behind, queueing_lock or refused (*problem*)."""

    source: int
    task: str
    moved: bool
    gone: bool
    scheduled: bool
    left_by: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """Closed locks: *seen* of them up to the id *last*, of which so many stay *closed*."""

    seen: int
    last: int | None
    closed: int


@dataclass(frozen=True, slots=True)
class Undone:
    """What there is to do in procrastinate's table."""

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What waits of one task in one queue: *jobs*, of which so many are *scheduled*, have a lock, wait for a job of it that runs,
    would be refused (*problem* is one of the sentences)."""

    task: str
    queue: str
    jobs: int
    scheduled: int
    locked: int
    running: int
    refused: int
    problem: str | None


def find(conn: Connection, schema: str | None) -> list[str]:
    """The schemas with procrastinate's tables; only *schema* where it is given."""
    return [name for (name,) in conn.execute(_FIND, {"schema": schema}).fetchall()]


def linger(conn: Connection) -> None:
    """Let this transaction last, whatever the server's limits are."""
    conn.execute(_LINGER)


def take_turn(conn: Connection) -> bool:
    """Whether this transaction may adopt: one at a time may, until its end."""
    return bool(value(conn, _TURN, {}))


def enter(conn: Connection, schema: str) -> None:
    """Find procrastinate's tables in *schema* until the end of the transaction."""
    conn.execute(_ENTER, {"schema": schema})


def columns(conn: Connection) -> dict[str, list[str]]:
    """The columns of procrastinate's tables, those that are there."""
    return dict(conn.execute(_COLUMNS).fetchall())


def close(conn: Connection, place: Place, n: int) -> int:
    """Close the locks of the next *n* jobs to procrastinate's workers; how many were open."""
    return int(value(conn, _CLOSE, {"priority": place.priority, "id": place.id, "n": n}))


def writers(conn: Connection) -> set[str]:
    """Other transactions that may be writing procrastinate's table, by virtual id."""
    return set(value(conn, _WRITERS, {}))


def pick(conn: Connection, place: Place, n: int) -> Picked:
    """Hold the next *n* jobs until the end of the transaction; those that somebody else holds are passed over."""
    found = first(conn, Picked, _PICK, {"priority": place.priority, "id": place.id, "n": n})
    return cast("Picked", found)


def move(conn: Connection, picked: Picked, *, settled: bool, actor: str) -> list[Judged]:
    """Move what may be moved of *picked*. *settled*: every worker of procrastinate sees which locks are closed."""
    params = {
        "ids": list(picked.ids),
        "priority": picked.priority,
        "id": picked.id,
        "settled": settled,
        "actor": actor,
    }
    return rows(conn, Judged, _MOVE, params)


def carry_marks(conn: Connection) -> int:
    """Take over the last ticks of periodic tasks; how many were new."""
    return int(value(conn, _MARKS, {}))


def reopen(conn: Connection, after: int, n: int) -> Opened:
    """Look at *n* closed locks behind the id *after*, and open those that may be."""
    return cast("Opened", first(conn, Opened, _OPEN, {"id": after, "n": n}))


def undone(conn: Connection) -> Undone:
    """What waits and what runs there."""
    return cast("Undone", first(conn, Undone, _UNDONE, {}))


def counts(conn: Connection) -> tuple[Mapping[str, int], int]:
    """Jobs by status, history included; and how many workers of procrastinate are alive. Reads the whole table."""
    found: Any = conn.execute(_COUNTS).fetchone()
    return dict(found[0]), int(found[1])


def preview(conn: Connection) -> list[Preview]:
    """What waits, by task and queue, the most first. Reads all that waits."""
    return rows(conn, Preview, _PREVIEW, {})
