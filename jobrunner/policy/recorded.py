"""Rows of the log as they come: one event, and the batch that a stream reads. Trusted; the payload is validated later, once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


# Not frozen: one is built per delivery, and object.__setattr__ costs seven times more.
@dataclass(slots=True)
class Recorded:
    """One row of the log, in the column order of load_deliveries_v1."""

    position: int
    """Its place in the log: dense, in the order of commits where that is defined."""
    recorded_at: datetime
    """When the sequencer recorded it; grows with the position."""
    event_id: UUID
    """The same for ever."""
    type: str
    """Words with dots."""
    version: int
    """Of the payload."""
    source: str
    """Who published it."""
    subject: str | None
    """What it is about."""
    key: str | None
    """What orders it."""
    occurred_at: datetime
    """When it was published."""
    data: str
    """The payload, JSON text."""
    headers: str
    """JSON text of what is beside the payload."""
    correlation_id: UUID
    """One for everything that one fact caused: that of the first event, or of the job, it all began with."""
    cause_event: UUID | None
    """The event whose handler published it."""
    cause_job_id: int | None
    """The job whose handler published it."""


@dataclass(slots=True)
class Batch:
    """What a stream subscription reads at a time."""

    from_after: int
    """Where its cursor stood."""
    upto: int
    """Where it stands when the batch is done."""
    events: list[Recorded]
    """In the order of their positions; may be empty."""
