"""What people look at of events, as values: one class for each kind of row, its fields in the words of the columns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from jobrunner.policy.payload import Json
from jobrunner.policy.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """What waits in the outbox, and where the log stands."""

    pending: int
    oldest_age: timedelta | None
    oldest_id: int | None
    head_position: int
    """0 before the first event."""
    head_recorded_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRow:
    """One subscription: its deliveries by state, and how far it is behind (v_subscription)."""

    name: str
    app: str
    mode: str
    types: list[str]
    queue: str
    ordered: bool
    on_dead: str
    state: str
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    live_from: int
    cursor_position: int | None
    """Of a stream: how far it has read."""
    head: int
    lag_events: int
    lag: timedelta | None
    """For how long the oldest that it has not handled has waited."""
    ready: int
    scheduled: int
    retrying: int
    """Scheduled after a failure."""
    blocked: int
    running: int
    dead: int
    blocked_keys: int
    """Keys that a dead delivery blocks."""
    replaying: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedKeyRow:
    """One key that a dead delivery blocks."""

    subscription: str
    key: str
    job_id: int
    position: int | None
    since: datetime
    reason: str | None
    error: str | None
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event; its payload and headers are None where nobody asked for them, its place where it waits in the outbox."""

    position: int | None
    recorded_at: datetime | None
    occurred_at: datetime
    type: str
    version: int
    source: str
    subject: str | None
    key: str | None
    event_id: UUID
    correlation_id: UUID
    cause_event: UUID | None
    cause_job_id: int | None
    bytes: int
    """Of the payload, as it is stored."""
    data: dict[str, Json] | None
    headers: dict[str, Json] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """What became of an event at one subscription. *state* is that of the delivery's job; of a stream passed, unread or skipped;
    to_come where a walk over the log will reach it; none where there is no delivery."""

    subscription: str
    mode: str
    state: str
    blocked_on: str | None
    job_id: int | None
    replay: int | None
    """The walk that delivered it again."""
    attempt: int | None
    failures: int | None
    waited: timedelta | None
    """To its latest start; to now when it has not started."""
    ran: timedelta | None
    reason: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTypeRow:
    """One version of a type of events."""

    type: str
    version: int
    first_position: int
    last_position: int
    last_at: datetime
    n_24h: int
    subscriptions: list[str]
    """Empty: nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """One walk over the log; *total* and *processed* are positions."""

    id: int
    subscription: str
    kind: str
    state: str
    total: int
    processed: int
    failed: int
    """Dead deliveries of a replay or rewind."""
    percentage: float | None
    rate: float | None
    estimated_completion: datetime | None
    message: str
    from_after: int
    upto: int
    at_position: int
    types: list[str] | None
    key: str | None
    max_rate: float | None
    delivered: int
    actor: str
    reason: str | None
    created_at: datetime
    moved_at: datetime
    finished_at: datetime | None

    @property
    def progress(self) -> Progress:
        """The same, as every progress is told."""
        return Progress(
            total=self.total,
            processed=self.processed,
            failed=self.failed,
            percentage=self.percentage,
            rate=self.rate,
            estimated_completion=self.estimated_completion,
            message=self.message,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a replay would walk over."""

    after: int
    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaRow:
    """One saga without its state; *status* is what is stored, or stuck or needs_attention (v_saga)."""

    name: str
    key: str
    status: str
    dead_job_id: int | None
    """What it waits for a person to resolve."""
    compensations: int
    """Jobs that would undo what it has done."""
    version: int
    reason: str | None
    timeout_at: datetime | None
    correlation_id: UUID | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaState:
    """What a saga knows."""

    state: Json
    compensation: list[Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class SagasInNeed:
    """Open sagas of one name that need a person."""

    name: str
    status: str
    sagas: int
    sample: str
    """The key of one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events; None is no condition."""

    pattern: str | None = None
    """Of their type: order.paid, order.*, #."""
    key: str | None = None
    subject: str | None = None
    since: timedelta | None = None
    """Recorded within this time."""
