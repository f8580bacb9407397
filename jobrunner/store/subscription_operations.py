"""What people change about subscriptions and sagas: each function calls one function of the database, which writes an audit row.

*actor* is who, *reason* why, for the audit. A connection in autocommit and READ COMMITTED makes each call one transaction. What
cannot be right is refused by the database with a sentence (JR004), a name that is not there too (JR005): see store.failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias, cast

from psycopg.types.json import Jsonb

from jobrunner.policy.subscriptions import Declaration, Difference
from jobrunner.store.events import subscribe_params
from jobrunner.store.queries import query
from jobrunner.store.reading import Connection, value

Skipped: TypeAlias = Literal["cancelled", "requested", "discarded", "busy", "skipped", "over"]
"""Ended now · its runner was asked to stop · was dead and is given up · someone holds it, ask again · a stream will not read it ·
nothing is open."""

How: TypeAlias = Literal["retry", "discard"]
"""Another life for the dead delivery, still first in its line · given up, and the next one has its turn."""

_SUBSCRIBE = query("subscribe")
_DIFF = query("subscription_diff")
_APPLY = query("apply_subscription")
_PAUSE = query("op_pause_subscription")
_RESUME = query("op_resume_subscription")
_REMOVE = query("op_remove_subscription")
_SKIP = query("op_skip")
_RESOLVE_KEY = query("op_resolve_key")
_REPLAY = query("op_replay")
_CANCEL_REPLAY = query("op_cancel_replay")
_SAGA_COMPENSATE = query("op_saga_compensate")
_SAGA_COMPLETE = query("op_saga_complete")


def diff(conn: Connection, declared: Declaration) -> Difference | None:
    """How the subscription that is there differs from *declared*; None when there is none. Changes nothing."""
    return cast("Difference | None", value(conn, _DIFF, {"name": declared.name, "spec": Jsonb(declared.as_json())}))


def create(conn: Connection, declared: Declaration) -> None:
    """Make *declared* known where its name is not, as the first runner that has it would."""
    conn.execute(_SUBSCRIBE, subscribe_params(declared))


def apply(conn: Connection, declared: Declaration, *, actor: str, reason: str | None = None) -> Difference:
    """Make the subscription what *declared* says; returns the differences that there were."""
    params = {"name": declared.name, "app": declared.app, "spec": Jsonb(declared.as_json())}
    return cast("Difference", value(conn, _APPLY, {**params, "actor": actor, "reason": reason}))


def pause(conn: Connection, name: str, *, actor: str, reason: str | None = None) -> bool:
    """Stop claims of its deliveries; what runs goes on. False when it was paused already."""
    return bool(value(conn, _PAUSE, {"name": name, "actor": actor, "reason": reason}))


def resume(conn: Connection, name: str, *, actor: str, reason: str | None = None) -> bool:
    """Let claims take its deliveries again. False when it was not paused."""
    return bool(value(conn, _RESUME, {"name": name, "actor": actor, "reason": reason}))


def remove(conn: Connection, name: str, *, actor: str, reason: str | None = None) -> int:
    """Remove it with its open deliveries; returns how many those were. A runner that has its code makes it anew."""
    return int(value(conn, _REMOVE, {"name": name, "actor": actor, "reason": reason}))


def skip(conn: Connection, name: str, position: int, *, actor: str, reason: str | None = None) -> Skipped:
    """Let it pass over one event."""
    return cast("Skipped", value(conn, _SKIP, {"name": name, "position": position, "actor": actor, "reason": reason}))


def resolve_key(conn: Connection, name: str, key: str, how: How, *, actor: str, reason: str | None = None) -> int:
    """Free a key that a dead delivery blocks; returns the id of that delivery."""
    return int(value(conn, _RESOLVE_KEY, {"name": name, "key": key, "how": how, "actor": actor, "reason": reason}))


def replay(
    conn: Connection,
    name: str,
    *,
    after: int | None,
    since: datetime | None,
    upto: int | None,
    until: datetime | None,
    types: Sequence[str] | None,
    key: str | None,
    rate: float | None,
    actor: str,
    reason: str | None = None,
) -> int | None:
    """Let it see events again; returns the id of the walk, None for a stream, whose cursor goes back."""
    params = {
        "name": name,
        "after": after,
        "since": since,
        "upto": upto,
        "until": until,
        "types": None if types is None else list(types),
        "key": key,
        "rate": rate,
        "actor": actor,
        "reason": reason,
    }
    return cast("int | None", value(conn, _REPLAY, params))


def cancel_replay(conn: Connection, replay: int, *, actor: str, reason: str | None = None) -> int | None:
    """Stop a walk and cancel what of it nobody has begun: how many deliveries; None when it was over."""
    return cast("int | None", value(conn, _CANCEL_REPLAY, {"id": replay, "actor": actor, "reason": reason}))


def compensate_saga(conn: Connection, name: str, key: str, *, actor: str, reason: str | None = None) -> int:
    """Give a running saga up; returns how many jobs undo it."""
    return int(value(conn, _SAGA_COMPENSATE, {"name": name, "key": key, "actor": actor, "reason": reason}))


def complete_saga(conn: Connection, name: str, key: str, *, actor: str, reason: str | None = None) -> str:
    """End a saga that was mended by hand, without undoing anything; returns its new status."""
    return str(value(conn, _SAGA_COMPLETE, {"name": name, "key": key, "actor": actor, "reason": reason}))
