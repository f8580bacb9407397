"""Events on their way out: publications as the parameters of one statement. Pure; worker.publishing executes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from jobrunner.policy.events import Publication
from jobrunner.policy.models import Json, encode
from jobrunner.store.queries import query

PUBLISH = query("publish")
PUBLISH_MANY = query("publish_many")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where events come from: the source that they name, and what caused them."""

    source: str
    """Who publishes."""
    correlation_id: UUID | None = None
    """The tree of causes; None begins one with each event."""
    cause_job_id: int | None = None
    """The job whose handler publishes."""
    cause_event: UUID | None = None
    """The event whose handler publishes."""
    traced: Mapping[str, Json] | None = None
    """Headers that go from a cause to its effects: traceparent, tracestate."""


def publish_params(
    event: Publication, headers: Mapping[str, Json], origin: Origin, *, event_id: UUID | None, notify: bool
) -> dict[str, Any]:
    """The parameters of PUBLISH. Raises what `encode` raises, before any SQL."""
    return {
        "type": event.type,
        "data": encode(event.data, event.type, root="data"),
        "version": event.version,
        "key": event.key,
        "subject": event.subject,
        "headers": encode({**(origin.traced or {}), **headers}, event.type, root="headers"),
        "source": origin.source,
        "event_id": event_id,
        "notify": notify,
        "correlation_id": origin.correlation_id,
        "cause_job_id": origin.cause_job_id,
        "cause_event": origin.cause_event,
    }


def publish_many_params(
    events: Sequence[Publication], headers: Mapping[str, Json], origin: Origin, *, notify: bool
) -> dict[str, Any]:
    """The parameters of PUBLISH_MANY: one JSON array. What all have in common is encoded once."""
    shared: dict[str, Json] = {"source": origin.source, "headers": {**(origin.traced or {}), **headers}}
    if origin.correlation_id is not None:
        shared["correlation_id"] = str(origin.correlation_id)
    if origin.cause_job_id is not None:
        shared["cause_job_id"] = origin.cause_job_id
    if origin.cause_event is not None:
        shared["cause_event"] = str(origin.cause_event)
    opening = encode(shared, "headers", root="headers")[:-1]
    elements = []
    for event in events:
        own: dict[str, Json] = {
            "type": event.type,
            "version": event.version,
            "key": event.key,
            "subject": event.subject,
        }
        rest = json.dumps(own, ensure_ascii=False, separators=(",", ":"))[1:-1]
        elements.append(f'{opening},{rest},"data":{encode(event.data, event.type, root="data")}}}')
    return {"events": f"[{','.join(elements)}]", "notify": notify}
