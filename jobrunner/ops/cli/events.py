"""`jobrunner events`: list, show, types."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from jobrunner.errors import ConfigError, NotFound
from jobrunner.ops import event_shapes
from jobrunner.ops.cli.eventviews import event_detail, event_table, type_table
from jobrunner.ops.cli.session import Session, command
from jobrunner.policy.durations import duration
from jobrunner.policy.topics import check_pattern
from jobrunner.store import event_overview, overview
from jobrunner.store.event_rows import EventFilter

app = typer.Typer(no_args_is_help=True, help="Look at what was published, and what became of it.")

Payload = Annotated[bool, typer.Option("--payload", help="Also the payload and the headers.")]


@command(app, "list")
def list_events(
    session: Session,
    pattern: Annotated[
        str | None, typer.Option("--type", metavar="PATTERN", help="Only events of types like order.paid, order.*, #.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only events with this key.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only events about this, like order:42.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DURATION", help="Only events recorded within, like 1h.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
    after: Annotated[
        int | None,
        typer.Option("--after", metavar="POSITION", help="Go on after this position, the last of the page before."),
    ] = None,
    payload: Payload = False,
) -> None:
    """List recorded events, the newest first."""
    if pattern is not None:
        check_pattern(pattern)
    within = None if since is None else duration(since, what="--since")
    which = EventFilter(pattern=pattern, key=key, subject=subject, since=within)
    with session.connect() as conn:
        now = overview.clock(conn)
        events = event_overview.list_events(conn, which, limit=limit, after=after, payload=payload)
        waiting = event_overview.outbox(conn).pending
    session.show(
        lambda: [event_shapes.event_shape(event, payload=payload) for event in events],
        lambda: event_table(events, now, payload=payload),
    )
    if len(events) == limit and not session.json:
        session.say(f"that is {limit}; for more: --after {events[-1].position}")
    if waiting and after is None and not session.json:
        session.say(f"note: {waiting:,} more in the outbox, not recorded yet")


@command(app, "show")
def show_event(
    session: Session,
    ref: Annotated[str, typer.Argument(metavar="EVENT", help="Its id, or its position in the log.")],
    payload: Payload = False,
) -> None:
    """Show one event, and what became of it at each subscription."""
    wanted = _reference(ref)
    with session.connect() as conn:
        now, event = overview.clock(conn), event_overview.find_event(conn, wanted)
        if event is None:
            raise NotFound("event", ref, "it was never published, or its day of the log was dropped")
        outcomes = [] if event.position is None else event_overview.list_outcomes(conn, event.position)
    session.show(
        lambda: {
            **event_shapes.event_shape(event, payload=payload),
            "outcomes": [event_shapes.outcome_shape(one) for one in outcomes],
        },
        lambda: event_detail(event, outcomes, now, payload=payload),
    )


@command(app, "types")
def list_types(session: Session) -> None:
    """List what is published, how much of it within a day, and who listens."""
    with session.connect() as conn:
        now, kinds = overview.clock(conn), event_overview.list_event_types(conn)
    session.show(lambda: [event_shapes.event_type_shape(one) for one in kinds], lambda: type_table(kinds, now))


def _reference(text: str) -> int | UUID:
    if text.isascii() and text.isdecimal() and len(text) <= 18:
        return int(text)
    try:
        return UUID(text)
    except ValueError:
        raise ConfigError("EVENT", f"is neither an id nor a position, got {text!r}") from None
