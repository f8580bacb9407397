"""An event as its handler sees it, and as CloudEvents 1.0 writes it: takes a row of the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from jobrunner.policy.models import Json
from jobrunner.policy.recorded import Recorded


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event as its handler sees it, without the payload; `cloudevent` has both, as CloudEvents 1.0 writes them."""

    id: UUID
    """The same for ever: the natural idempotency key across subscribers."""
    position: int
    """Its place in the log; 0 for one that was only dispatched."""
    type: str
    """Words with dots."""
    version: int
    """Of the payload as it was published; the handler may see it upcast."""
    source: str
    """Who published it."""
    subject: str | None
    """What it is about."""
    key: str | None
    """What orders it."""
    time: datetime
    """When it was published."""
    headers: Mapping[str, Json]
    """What was published beside the payload."""
    correlation_id: UUID
    """One for everything that one fact caused."""
    causation_id: str | None
    """What made somebody publish it: the id of an event, or job:ID; None where nothing of jobrunner's did."""
    replay: bool
    """Whether this subscription is seeing it again."""
    data: Mapping[str, Json] = field(repr=False)
    """The payload as it was published."""

    @classmethod
    def of(cls, recorded: Recorded, *, replay: bool) -> Envelope:
        """The envelope of a row of the log."""
        cause = recorded.cause_event or (recorded.cause_job_id and f"job:{recorded.cause_job_id}")
        return cls(
            id=recorded.event_id,
            position=recorded.position,
            type=recorded.type,
            version=recorded.version,
            source=recorded.source,
            subject=recorded.subject,
            key=recorded.key,
            time=recorded.occurred_at,
            headers=json.loads(recorded.headers),
            correlation_id=recorded.correlation_id,
            causation_id=str(cause) if cause else None,
            replay=replay,
            data=json.loads(recorded.data),
        )

    def cloudevent(self) -> dict[str, Json]:
        """The event as CloudEvents 1.0 in JSON, with the extensions partitioning, sequence and distributed tracing.

        `sequence` is the position in 19 digits, so that text sorts like numbers; what has no value is left out.
        """
        attributes: dict[str, Json] = {
            "specversion": "1.0",
            "id": str(self.id),
            "source": self.source or "jobrunner",
            "type": self.type,
            "subject": self.subject,
            "time": self.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "dataschema": f"urn:jobrunner:{self.type}:{self.version}",
            "partitionkey": self.key,
            "sequence": f"{self.position:019d}" if self.position else None,
            "correlationid": str(self.correlation_id),
            "causationid": self.causation_id,
            **traced(self.headers),
            "data": dict(self.data),
        }
        return {name: value for name, value in attributes.items() if value is not None}


_TREES = 0x6F8D1B1E6B4E8E63 << 64 | 1 << 63


def tree_of(job_id: int) -> UUID:
    """The correlation id of the tree that a job began which nobody caused: its id is the rest (job_correlation.sql)."""
    return UUID(int=_TREES | job_id)


def traced(headers: Mapping[str, Json]) -> dict[str, Json]:
    """Those of *headers* that go from a cause to its effects: the trace context of the W3C."""
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
