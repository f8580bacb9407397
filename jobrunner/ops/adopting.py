"""Moving what waits in procrastinate's own tables into jobrunner's, while its workers run and both sides defer.

Each batch is one transaction that writes here and deletes there, so a job is moved once, whenever the process ends. What keeps the
order of a lock is told in docs/procrastinate.md, "Moving over".
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import psycopg
from psycopg import errors

from jobrunner.errors import ConfigError, Conflict, NotFound
from jobrunner.store import adoption
from jobrunner.store.adoption import Judged, Picked, Place, Preview, Undone
from jobrunner.store.reading import Connection

T = TypeVar("T")

BATCH = 500
"""Jobs of one transaction: small enough that nobody waits for its locks."""

_OPENED_AT_A_TIME = 10_000
_TRIES = 10  # at a step that somebody holds up; each waits for 2 s at the most
_SETTLING = 5.0  # seconds of patience with transactions that are older than the closing of a lock
_LOOK = 0.005
_MORE = 3  # rounds for what came during the one before
_PAUSE = 0.3  # seconds between two rounds of waiting

_KNOWN = {
    "procrastinate_jobs": {
        *("id", "queue_name", "task_name", "priority", "lock", "queueing_lock", "args", "status", "scheduled_at"),
        *("attempts", "abort_requested", "worker_id"),
    },
    "procrastinate_periodic_defers": {"id", "task_name", "defer_timestamp", "job_id", "periodic_id"},
    "procrastinate_workers": {"id", "last_heartbeat"},
    "procrastinate_events": {"id", "job_id", "type", "at"},
    "functions": {"procrastinate_fetch_job_v2", "procrastinate_retry_job_v2"},
}
"""procrastinate's schema as its releases 3.5 to 3.10 have it."""

Advance = Callable[[int], object]
Waits = Callable[[Undone], object]
"""Is told, before each pause, for what it waits."""


@dataclass(slots=True)
class Report:
    """What an adoption did, and how it left procrastinate's tables."""

    schema: str
    moved: int = 0
    scheduled: int = 0
    """Of the moved ones."""
    marks: int = 0
    """Last ticks of periodic tasks that were new here."""
    left: Counter[str] = field(default_factory=Counter)
    """Jobs that wait there still, by reason; of the last round."""
    refused: list[Judged] = field(default_factory=list)
    closed: int = 0
    """Locks that stay closed to procrastinate's workers, because their jobs are here and not over."""
    jobs: Mapping[str, int] = field(default_factory=dict)
    """What its table has now, by status, history included."""
    workers: int = 0
    """Of procrastinate, alive."""


def choose_schema(conn: Connection, schema: str | None) -> str:
    """The schema with procrastinate's tables.

    Raises:
        NotFound: there is none in this database.
        ConfigError: there are several.
        Conflict: its tables are not those of the releases that are known.
    """
    found = adoption.find(conn, schema)
    if not found:
        where = "this database" if schema is None else f"schema {schema} of this database"
        remedy = "both schemas must be in one database: connect to procrastinate's, and run jobrunner migrate there"
        raise NotFound("table procrastinate_jobs in", where, remedy)
    if len(found) > 1:
        raise ConfigError("--schema", f"is needed: procrastinate's tables are in {', '.join(found)}")
    with _inside(conn, found[0]):
        there = adoption.columns(conn)
    for table, known in _KNOWN.items():
        names = set(there.get(table, ()))
        if lacking := sorted(known - names):
            told = f"{table} of schema {found[0]} lacks {', '.join(lacking)}: bring it to release 3.5 to 3.10 first"
            raise Conflict("adopt procrastinate's jobs", told)
        if strange := sorted(names - known):
            told = f"{table} of schema {found[0]} has {', '.join(strange)}, which release 3.10 has not, and which would be lost"
            raise Conflict("adopt procrastinate's jobs", told)
    return found[0]


def preview(conn: Connection, schema: str) -> tuple[list[Preview], Mapping[str, int], int]:
    """What waits there, by task and queue; its jobs by status; its workers that are alive. Changes nothing."""
    with _inside(conn, schema):
        found = adoption.preview(conn)
        return found, *adoption.counts(conn)


def undone(conn: Connection, schema: str) -> Undone:
    """What waits and runs there."""
    with _inside(conn, schema):
        return adoption.undone(conn)


class Adoption:
    """One run; `report` is what it has done so far."""

    def __init__(self, conn: Connection, schema: str, *, actor: str, advance: Advance, waits: Waits) -> None:
        self._conn, self._schema, self._actor, self._advance, self._waits = conn, schema, actor, advance, waits
        self.report = Report(schema)
        self._older: set[str] = set()  # transactions that may not see yet which locks are closed
        self._patience = _SETTLING

    def run(self, *, wait: bool) -> None:
        """Move all that can be moved; with *wait* go on until nothing waits or runs there but what was refused.

        Raises:
            Conflict: somebody holds what it needs, for long; or a table of the user's forbids that jobs go.
        """
        try:
            rounds = 1
            while True:
                while self._round(more=rounds <= _MORE):
                    rounds += 1
                if not wait or self._is_over(there := undone(self._conn, self._schema)):
                    break
                self._waits(there)
                time.sleep(_PAUSE)
            self._open()
        except BaseException:
            with suppress(psycopg.Error, Conflict):
                self._open()
            raise
        with _inside(self._conn, self._schema):
            self.report.jobs, self.report.workers = adoption.counts(self._conn)

    def _round(self, *, more: bool) -> bool:
        """Go through all that waits once; whether another round may move much, or with *more* also little."""
        place, moved, again = Place(), 0, False
        self.report.left, self.report.refused = Counter(), []
        while True:
            self._close(place)
            picked, judged = self._step(lambda at=place: self._move(at))  # type: ignore[misc]
            moved += self._note(picked, judged)
            again = again or (more and not self._older and any(one.left_by == "open" for one in judged))
            if picked.seen < BATCH or picked.priority is None or picked.id is None:
                return moved >= BATCH or (moved > 0 and again)
            place = Place(picked.priority, picked.id)

    def _close(self, place: Place) -> None:
        """Close the locks of the next batch, and wait until every worker sees that."""

        def close() -> int:
            with _inside(self._conn, self._schema):
                return adoption.close(self._conn, place, BATCH)

        self._step(close)
        with _inside(self._conn, self._schema):
            self._older |= adoption.writers(self._conn)
        ends = time.monotonic() + self._patience
        while self._older:
            with _inside(self._conn, self._schema):
                self._older &= adoption.writers(self._conn)
            if time.monotonic() >= ends:
                self._patience = 0.0 if self._older else _SETTLING
                return
            if self._older:
                time.sleep(_LOOK)
        self._patience = _SETTLING

    def _move(self, place: Place) -> tuple[Picked, list[Judged]]:
        with _inside(self._conn, self._schema):
            picked = adoption.pick(self._conn, place, BATCH)
            marks = adoption.carry_marks(self._conn)  # before a job of theirs can be seen here
            judged = adoption.move(self._conn, picked, settled=not self._older, actor=self._actor)
            if any(one.moved != one.gone for one in judged):
                raise Conflict("adopt procrastinate's jobs", "a trigger on procrastinate_jobs keeps them from going")
        self.report.marks += marks
        return picked, judged

    def _note(self, picked: Picked, judged: Sequence[Judged]) -> int:
        moved = [one for one in judged if one.moved]
        self.report.moved += len(moved)
        self.report.scheduled += sum(one.scheduled for one in moved)
        self.report.left.update(one.left_by for one in judged if one.left_by)
        self.report.left += Counter(held=picked.seen - len(picked.ids))
        self.report.refused += [one for one in judged if one.left_by == "refused"]
        self._advance(len(moved))
        return len(moved)

    def _is_over(self, there: Undone) -> bool:
        left = set(self.report.left)
        stuck = left <= {"refused", "behind"} and ("behind" not in left or "refused" in left)
        return stuck and not there.running

    def _open(self) -> None:
        after, closed = 0, 0
        while True:

            def reopen(at: int = after) -> adoption.Opened:
                with _inside(self._conn, self._schema):
                    return adoption.reopen(self._conn, at, _OPENED_AT_A_TIME)

            found = self._step(reopen)
            closed += found.closed
            if found.seen < _OPENED_AT_A_TIME or found.last is None:
                self.report.closed = closed
                return
            after = found.last

    def _step(self, step: Callable[[], T]) -> T:
        for _ in range(_TRIES):
            try:
                return step()
            except (errors.LockNotAvailable, errors.DeadlockDetected):
                time.sleep(_PAUSE)
            except errors.ForeignKeyViolation as error:
                told = f"a table of yours refers to them ({error.diag.message_primary})"
                raise Conflict("adopt procrastinate's jobs", told) from error
        raise Conflict(
            "adopt procrastinate's jobs", "a transaction holds what it needs; run it again when that is over"
        )


@contextmanager
def _inside(conn: Connection, schema: str) -> Iterator[None]:
    """One transaction in which procrastinate's tables are found."""
    with conn.transaction():
        adoption.enter(conn, schema)
        yield
