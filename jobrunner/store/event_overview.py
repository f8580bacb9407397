"""What people look at of events: outbox, log, subscriptions, walks, sagas. Reads only; takes no lock that others wait for.

Takes a sync connection; its values (store.event_rows) have the columns of the statements as fields.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from jobrunner.policy.topics import is_literal
from jobrunner.store.event_rows import (
    BlockedKeyRow,
    EventFilter,
    EventRow,
    EventTypeRow,
    OutboxRow,
    OutcomeRow,
    ReplayRow,
    SagaRow,
    SagasInNeed,
    SagaState,
    Span,
    SubscriptionRow,
)
from jobrunner.store.queries import query
from jobrunner.store.reading import Connection, first, rows, value

_OUTBOX = query("outbox")
_SUBSCRIPTIONS = query("subscriptions")
_SUBSCRIPTION_NAMES = query("subscription_names")
_SUBSCRIPTION_OPEN = query("subscription_open")
_LISTENERS = query("listeners")
_BLOCKED_KEYS = query("blocked_keys")
_EVENTS_PAGE = query("events_page")
_EVENT_PAYLOADS = query("event_payloads")
_EVENT = query("event")
_EVENT_OUTCOMES = query("event_outcomes")
_EVENT_TYPES = query("event_types")
_REPLAYS = query("replays")
_REPLAY_SPAN = query("replay_span")
_REPLAY_OPEN = query("replay_open")
_SAGAS = query("sagas")
_SAGA_STATE = query("saga_state")
_SAGAS_IN_NEED = query("sagas_in_need")


def outbox(conn: Connection) -> OutboxRow:
    """What waits to be moved into the log, and where the log stands."""
    return rows(conn, OutboxRow, _OUTBOX, {})[0]


def list_subscriptions(conn: Connection) -> list[SubscriptionRow]:
    """Every subscription, by name. Reads the whole table of jobs."""
    return rows(conn, SubscriptionRow, _SUBSCRIPTIONS, {"name": None})


def find_subscription(conn: Connection, name: str) -> SubscriptionRow | None:
    """The subscription, or None. Reads the whole table of jobs."""
    return first(conn, SubscriptionRow, _SUBSCRIPTIONS, {"name": name})


def subscriptions_of(conn: Connection, app: str) -> list[str]:
    """The names of the subscriptions of an app."""
    return [name for (name,) in conn.execute(_SUBSCRIPTION_NAMES, {"app": app}).fetchall()]


def listeners(conn: Connection, event_type: str) -> list[str]:
    """The names of the subscriptions that want events of this type."""
    return [name for (name,) in conn.execute(_LISTENERS, {"type": event_type}).fetchall()]


def count_open(conn: Connection, subscription: str) -> int:
    """How many of its deliveries wait or are dead. Reads the whole table of jobs."""
    return int(value(conn, _SUBSCRIPTION_OPEN, {"name": subscription}) or 0)


def list_blocked_keys(conn: Connection, subscription: str, *, limit: int) -> list[BlockedKeyRow]:
    """Up to *limit* keys of it that a dead delivery blocks, the longest first."""
    return rows(conn, BlockedKeyRow, _BLOCKED_KEYS, {"name": subscription, "limit": limit})


def list_events(
    conn: Connection, which: EventFilter, *, limit: int, after: int | None = None, payload: bool = False
) -> list[EventRow]:
    """Up to *limit* events, the newest first; with *after* those before that position."""
    literal = which.pattern is not None and is_literal(which.pattern)
    params = {
        "type": which.pattern if literal else None,
        "patterns": None if literal or which.pattern is None else [which.pattern],
        "key": which.key,
        "subject": which.subject,
        "since": which.since,
        "after": after,
        "limit": limit,
    }
    page = rows(conn, EventRow, _EVENTS_PAGE, params)
    if not payload:
        return page
    found = conn.execute(_EVENT_PAYLOADS, {"positions": [event.position for event in page]}).fetchall()
    payloads = {position: {"data": data, "headers": headers} for position, data, headers in found}
    return [replace(event, **payloads.get(event.position, {})) for event in page]


def find_event(conn: Connection, ref: int | UUID) -> EventRow | None:
    """The event of this position or id, in the log or still in the outbox; None when there is none any more."""
    params = {"position": ref, "event_id": None} if isinstance(ref, int) else {"position": None, "event_id": ref}
    return first(conn, EventRow, _EVENT, params)


def list_outcomes(conn: Connection, position: int) -> list[OutcomeRow]:
    """What became of the event at *position* at each subscription that got or wants it."""
    return rows(conn, OutcomeRow, _EVENT_OUTCOMES, {"position": position})


def list_event_types(conn: Connection) -> list[EventTypeRow]:
    """What is published, by type and version. Reads a day of the log."""
    return rows(conn, EventTypeRow, _EVENT_TYPES, {})


def list_replays(
    conn: Connection, *, subscription: str | None = None, every: bool = True, limit: int
) -> list[ReplayRow]:
    """Up to *limit* walks over the log, the newest first; without *every* only those that are under way."""
    return rows(conn, ReplayRow, _REPLAYS, {"subscription": subscription, "id": None, "all": every, "limit": limit})


def find_replay(conn: Connection, replay: int) -> ReplayRow | None:
    """The walk, or None."""
    return first(conn, ReplayRow, _REPLAYS, {"subscription": None, "id": replay, "all": True, "limit": 1})


def replay_span(
    conn: Connection, *, after: int | None, since: datetime | None, upto: int | None, until: datetime | None
) -> Span:
    """What a replay would walk over: from behind a position or an instant, up to a position or before an instant."""
    return rows(conn, Span, _REPLAY_SPAN, {"after": after, "since": since, "upto": upto, "until": until})[0]


def count_open_of_replay(conn: Connection, subscription: str, replay: int) -> int:
    """How many deliveries of a walk wait or run. Reads the whole table of jobs."""
    return int(value(conn, _REPLAY_OPEN, {"subscription": subscription, "id": replay}))


def list_sagas(conn: Connection, *, name: str | None = None, status: str | None = None, limit: int) -> list[SagaRow]:
    """Up to *limit* sagas, the latest change first."""
    return rows(conn, SagaRow, _SAGAS, {"name": name, "key": None, "status": status, "limit": limit})


def find_saga(conn: Connection, name: str, key: str) -> SagaRow | None:
    """The saga, or None."""
    return first(conn, SagaRow, _SAGAS, {"name": name, "key": key, "status": None, "limit": 1})


def saga_state(conn: Connection, name: str, key: str) -> SagaState | None:
    """What it knows, and what would undo what it has done."""
    return first(conn, SagaState, _SAGA_STATE, {"name": name, "key": key})


def list_sagas_in_need(conn: Connection) -> list[SagasInNeed]:
    """Open sagas that need a person, counted by name and status."""
    return rows(conn, SagasInNeed, _SAGAS_IN_NEED, {})
