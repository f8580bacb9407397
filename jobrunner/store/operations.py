"""What people change: each function calls one op_* function of the database, which writes an audit row.

*actor* is who, *reason* why, for the audit. Rows that someone else holds are passed over, never waited for. A connection
in autocommit makes each call one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, LiteralString, TypeAlias, cast

from jobrunner.store.queries import query
from jobrunner.store.reading import Connection, value

Cancelled: TypeAlias = Literal["cancelled", "requested", "busy", "over"]
"""Ended now · its runner was asked to stop · someone holds the row, ask again · it was over, dead or unknown before."""

_OP_REQUEUE = query("op_requeue")
_OP_DISCARD = query("op_discard")
_OP_RETRY_NOW = query("op_retry_now")
_OP_CANCEL = query("op_cancel")
_OP_PAUSE = query("op_pause")
_OP_RESUME = query("op_resume")


def requeue(
    conn: Connection, ids: Sequence[int], *, spread: timedelta = timedelta(0), actor: str, reason: str | None = None
) -> list[int]:
    """Give dead jobs another life, evenly over *spread*; returns the ids of those that were dead."""
    return _ids(conn, _OP_REQUEUE, {"ids": list(ids), "spread": spread, "actor": actor, "reason": reason})


def discard(conn: Connection, ids: Sequence[int], *, actor: str, reason: str | None = None) -> list[int]:
    """Give dead jobs up: they go to history as cancelled; returns the ids of those that were dead."""
    return _ids(conn, _OP_DISCARD, {"ids": list(ids), "actor": actor, "reason": reason})


def retry_now(conn: Connection, ids: Sequence[int], *, actor: str, reason: str | None = None) -> list[int]:
    """Make scheduled jobs ready now; returns the ids of those that it moved."""
    return _ids(conn, _OP_RETRY_NOW, {"ids": list(ids), "actor": actor, "reason": reason})


def cancel(
    conn: Connection, ids: Sequence[int], *, actor: str, reason: str | None = None
) -> list[tuple[int, Cancelled]]:
    """Cancel what waits and ask what runs to stop (heard within 5 s); one result an id, in order."""
    rows = conn.execute(_OP_CANCEL, {"ids": list(ids), "actor": actor, "reason": reason}).fetchall()
    return cast("list[tuple[int, Cancelled]]", rows)


def pause(conn: Connection, queue: str, *, actor: str, reason: str | None = None) -> bool:
    """Stop claims from *queue*; what runs goes on. False when it was paused already."""
    return bool(value(conn, _OP_PAUSE, {"queue": queue, "actor": actor, "reason": reason}))


def resume(conn: Connection, queue: str, *, actor: str, reason: str | None = None) -> bool:
    """Let claims take from *queue* again. False when it was not paused."""
    return bool(value(conn, _OP_RESUME, {"queue": queue, "actor": actor, "reason": reason}))


def _ids(conn: Connection, statement: LiteralString, params: dict[str, Any]) -> list[int]:
    return list(value(conn, statement, params))
