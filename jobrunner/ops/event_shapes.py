"""Rows of events as JSON: takes the values of store, returns plain data. Ids are strings, positions numbers, durations seconds."""

from __future__ import annotations

import dataclasses
from typing import Any

from jobrunner.ops.attention import CONDITIONS, Events, condition
from jobrunner.ops.shapes import Shape, progress_shape
from jobrunner.policy.models import Json
from jobrunner.policy.subscriptions import Difference
from jobrunner.store.event_rows import (
    BlockedKeyRow,
    EventRow,
    EventTypeRow,
    OutboxRow,
    OutcomeRow,
    ReplayRow,
    SagaRow,
    SagaState,
    SubscriptionRow,
)


def event_shape(event: EventRow, *, payload: bool) -> Shape:
    """One event; its payload and headers only when they are asked for."""
    shape = {**_fields(event, "cause_job_id", "data", "headers"), "cause_job_id": _id(event.cause_job_id)}
    return {**shape, "data": event.data, "headers": event.headers} if payload else shape


def outcome_shape(outcome: OutcomeRow) -> Shape:
    """What became of an event at one subscription."""
    return {
        **_fields(outcome, "job_id", "replay", "waited", "ran"),
        "job_id": _id(outcome.job_id),
        "replay": _id(outcome.replay),
        "waited_seconds": outcome.waited,
        "ran_seconds": outcome.ran,
    }


def event_type_shape(kind: EventTypeRow) -> Shape:
    """One version of a type."""
    return _fields(kind)


def subscription_shape(row: SubscriptionRow) -> Shape:
    """One subscription; `lag_seconds` is null when nothing waits."""
    return {**_fields(row, "lag"), "lag_seconds": row.lag, "condition": condition(row)}


def blocked_key_shape(row: BlockedKeyRow) -> Shape:
    """One key that a dead delivery blocks."""
    return {**_fields(row, "job_id"), "job_id": str(row.job_id)}


def replay_shape(row: ReplayRow) -> Shape:
    """One walk over the log, with its progress as every progress is told."""
    own = ("id", "total", "processed", "failed", "percentage", "rate", "estimated_completion", "message")
    return {"id": str(row.id), **_fields(row, *own), "progress": progress_shape(row.progress)}


def saga_shape(row: SagaRow, state: SagaState | None = None) -> Shape:
    """One saga; its state only when it is given."""
    shape = {**_fields(row, "dead_job_id"), "dead_job_id": _id(row.dead_job_id)}
    return shape if state is None else {**shape, "state": state.state, "compensation": state.compensation}


def diff_shape(name: str, differences: Difference | None) -> dict[str, Json]:
    """How the code and the table differ: `new` where there is no subscription of the name."""
    told = "new" if differences is None else "differs" if differences else "same"
    changed: dict[str, Json] = {field: dict(pair) for field, pair in (differences or {}).items()}
    return {"name": name, "status": told, "differences": changed}


def overview_part(events: Events) -> Shape:
    """What the state of everything says of events: the outbox, and subscriptions by their condition."""
    return {
        "outbox": outbox_shape(events.outbox),
        "subscriptions": {one: sum(condition(row) == one for row in events.subscriptions) for one in CONDITIONS},
    }


def outbox_shape(row: OutboxRow) -> Shape:
    """What waits in the outbox; `oldest_age_seconds` is null when nothing does."""
    return {"pending": row.pending, "oldest_age_seconds": row.oldest_age, "head_position": row.head_position}


def _id(value: int | None) -> str | None:
    return None if value is None else str(value)


def _fields(row: Any, *without: str) -> Shape:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name not in without}
