"""How events look: takes rows, returns what rich prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.ops import shapes
from jobrunner.ops.cli import output
from jobrunner.store.event_rows import EventRow, EventTypeRow, OutcomeRow


def event_table(events: Sequence[EventRow], now: datetime, *, payload: bool) -> RenderableType:
    """Events as a table, one a line."""
    return output.table(
        ">position", "type", ">recorded", "key", "payload" if payload else "subject",
        rows=(
            (
                str(event.position),
                event.type if event.version == 1 else f"{event.type} v{event.version}",
                f"{output.rough(now - event.recorded_at)} ago" if event.recorded_at else "",
                event.key or "",
                json.dumps(event.data, ensure_ascii=False) if payload else event.subject or "",
            )
            for event in events
        ),
        flexible="payload" if payload else "subject",
        empty="no events",
    )  # fmt: skip


def event_detail(event: EventRow, outcomes: Sequence[OutcomeRow], now: datetime, *, payload: bool) -> RenderableType:
    """One event, and what became of it at each subscription."""
    where = "in the outbox" if event.position is None else f"position {event.position}"
    causes = {"event": event.cause_event, "job": event.cause_job_id}
    cause = ", ".join(f"{what} {which}" for what, which in causes.items() if which is not None)
    parts: list[RenderableType] = [
        Text.assemble((event.type, "bold"), f"  version {event.version}  ", (where, "bold")),
        Text(),
        output.facts(
            [
                ("id", str(event.event_id)),
                ("published", output.moment(event.occurred_at, now)),
                ("recorded", output.moment(event.recorded_at, now)),
                ("source", event.source or None),
                ("key", event.key),
                ("subject", event.subject),
                ("caused by", cause or None),
                ("correlation", None if event.correlation_id == event.event_id else str(event.correlation_id)),
                ("size", f"{event.bytes:,} bytes{'' if payload else '; see them with --payload'}"),
                ("payload", shapes.to_json(event.data, short=True) if payload else None),
                ("headers", shapes.to_json(event.headers, short=True) if payload and event.headers else None),
            ]
        ),
        Text(),
    ]
    if event.position is None:
        told = "It waits in the outbox: any live runner records it, and then it is delivered."
        return Group(*parts, Text(told, style="italic"))
    return Group(*parts, outcome_table(outcomes))


def outcome_table(outcomes: Sequence[OutcomeRow]) -> RenderableType:
    """What became of an event: one line a delivery, a stream, or a subscription without one."""
    return output.table(
        "subscription", "state", "job", ">starts", ">waited", ">ran", "note",
        rows=(
            (
                one.subscription,
                output.state(one.state, one.blocked_on) if one.blocked_on else _state(one.state),
                "" if one.job_id is None else str(one.job_id),
                "" if one.attempt is None else str(one.attempt),
                output.rough(one.waited),
                output.rough(one.ran),
                _note(one),
            )
            for one in outcomes
        ),
        flexible="note",
        empty="no subscription took it",
    )  # fmt: skip


def type_table(kinds: Sequence[EventTypeRow], now: datetime) -> RenderableType:
    """Types as a table; the ones to which nobody listens say so."""
    return output.table(
        "type", ">version", ">24 h", ">last", ">at position", "subscriptions",
        rows=(
            (
                one.type,
                str(one.version),
                output.count(one.n_24h),
                f"{output.rough(now - one.last_at)} ago",
                f"{one.last_position:,}",
                Text(", ".join(one.subscriptions)) if one.subscriptions else Text("nobody listens", style="yellow"),
            )
            for one in kinds
        ),
        flexible="subscriptions",
        empty="no events yet",
    )  # fmt: skip


def _state(name: str) -> Text:
    return Text(name.replace("_", " "), style=output.STYLES.get(name, ""))


def _note(one: OutcomeRow) -> Text:
    walk = f"walk {one.replay}" if one.replay else ""
    if one.error and one.state != "succeeded":
        return Text(" ".join(f"{walk} {one.error}".split()), style="red")
    return Text(" ".join(part for part in (walk, one.reason) if part), style="dim")
