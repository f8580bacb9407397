"""Sagas in the transaction of whoever steps them: read and hold a row, write what a step made of it.

Connections are sync, with whatever row factory their owner chose: a saga can also be stepped by `app.dispatch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, TypeAlias
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row

from jobrunner.policy.models import Job
from jobrunner.policy.saga import Saga, Status
from jobrunner.store.calls import enqueue_many_params
from jobrunner.store.queries import query

Connection: TypeAlias = psycopg.Connection[Any]

_LOCK_SAGA = query("lock_saga")
_SAVE_SAGA = query("save_saga")
_END_COMPENSATION = query("end_compensation")


@dataclass(frozen=True, slots=True)
class Stored:
    """One row of sagas."""

    status: Status
    """Where it is."""
    state: str
    """JSON text."""
    timeout_at: datetime | None
    """When its timeout is due: also what a job of that timeout carries."""
    correlation_id: UUID | None
    """That of the event that began it."""


def lock(conn: Connection, name: str, key: str, *, fenced: bool) -> Stored | None:
    """The saga, held until the transaction ends; None where there is none, and then nothing is held.

    *fenced*: a claim stands behind the transaction, so one that is idle for 10 s is broken off.
    """
    row = _one(conn, _LOCK_SAGA, {"name": name, "key": key, "fenced": fenced})
    return None if row is None else Stored(Status(row[0]), *row[1:])


def save(
    conn: Connection, name: str, saga: Saga[Any], state: str, *, starts: bool, correlation_id: UUID | None, notify: bool
) -> None:
    """Write what a step made of a saga that `lock` holds (*starts*: of one that was not there), and its timeout and compensations.

    Raises:
        psycopg.errors.UniqueViolation: somebody who does not go by the order of its key has started it meanwhile.
    """
    running = saga.status is Status.RUNNING
    params = {
        "name": name,
        "key": saga.key,
        "starts": starts,
        "status": saga.status,
        "state": state,
        "push": _stack(saga.compensations),
        "reason": saga.reason,
        "new_timeout": saga.sets_timeout,
        "timeout": saga.timeout_in if running else None,
        "correlation_id": correlation_id,
        "notify": notify,
    }
    _one(conn, _SAVE_SAGA, params)


def end_compensation(conn: Connection, name: str, key: str) -> bool:
    """Say that everything that undoes the saga has run; False when it does not compensate."""
    row = _one(conn, _END_COMPENSATION, {"name": name, "key": key})
    return row is not None and bool(row[0])


def _stack(jobs: Sequence[Job]) -> str:
    """*jobs* as enqueue_many takes them."""
    text: str = enqueue_many_params(jobs, notify=False, cause=None, correlation=None)["jobs"]
    return text


def _one(conn: Connection, statement: LiteralString, params: dict[str, Any]) -> tuple[Any, ...] | None:
    return psycopg.Cursor(conn, row_factory=tuple_row).execute(statement, params).fetchone()
