"""`jobrunner replay`: let a subscription see events again; list the walks over the log, cancel one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from jobrunner.errors import ConfigError, Conflict, NotFound
from jobrunner.ops import event_shapes
from jobrunner.ops.cli import output
from jobrunner.ops.cli.asking import confirm, instant_or_age
from jobrunner.ops.cli.jobs import Reason
from jobrunner.ops.cli.replaywait import wait_for_cursor, wait_for_walk
from jobrunner.ops.cli.session import Connection, Session, actor, command
from jobrunner.ops.cli.subviews import replay_table
from jobrunner.policy.topics import check_pattern
from jobrunner.store import event_overview, overview
from jobrunner.store import subscription_operations as operations
from jobrunner.store.event_rows import ReplayRow, Span, SubscriptionRow

app = typer.Typer(no_args_is_help=True, help="Let subscriptions see events again.")

Position = Annotated[int | None, typer.Option("--after", metavar="POSITION", min=0, help="From behind this position.")]


@command(app, "start")
def start_replay(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The subscription.")],
    after: Position = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="From what was recorded since, a time or an age like 2h."),
    ] = None,
    upto: Annotated[
        int | None, typer.Option("--upto", metavar="POSITION", min=0, help="Up to this position. Else: to the present.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Up to what was recorded before, a time or an age.")
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="PATTERN", help="Only these types; give it several times.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only events with this key.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", metavar="N", help="At most so many a second.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until its deliveries are over, with a bar on a terminal.")
    ] = False,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a rewind.")] = False,
) -> None:
    """Let a subscription see events again.

    An ordered subscription and a stream can only be rewound: from there up to the present, all of it, in order.
    """
    if (after is None) == (since is None):
        raise ConfigError("--after", "or --since says from where: give one of them")
    if upto is not None and until is not None:
        raise ConfigError("--upto", "and --until were given: give one of them")
    for pattern in types or ():
        check_pattern(pattern)
    with session.connect() as conn:
        now = _clock(conn)
        begin, end = instant_or_age(since, "--since", now), instant_or_age(until, "--until", now)
        row = event_overview.find_subscription(conn, name)
        if row is None:
            raise NotFound("subscription", name, "list them with: jobrunner subs list")
        if _is_rewind(row) and (upto is not None or until is not None or types or key is not None):
            kind = "ordered" if row.ordered else "a stream"
            problem = f"it is {kind}, so it can only be rewound: with every type and key, up to the present"
            raise Conflict(f"replay a part to {name}", problem)
        span = event_overview.replay_span(conn, after=after, since=begin, upto=upto, until=end)
        if dry_run:
            told = _told(conn, row, span)
            session.show(lambda: _shape(name, None, span, dry_run=True), lambda: Text(f"would {told}"))
            return
        if _is_rewind(row) and not yes:
            told = _told(conn, row, span)
            confirm(session, told, lambda: Text(f"would {told}"))
        made = operations.replay(
            conn,
            name,
            after=after,
            since=begin,
            upto=upto,
            until=end,
            types=types or None,
            key=key,
            rate=rate,
            actor=actor(),
            reason=reason,
        )
        if wait and not any(one.state == "alive" for one in overview.list_runners(conn)):
            session.say("note: no runner is alive, and nothing moves until one is: jobrunner run APP")
        if wait and made is None:
            wait_for_cursor(session, conn, name, span)
        elif wait and made is not None:
            wait_for_walk(session, conn, made)
        walk = None if made is None else event_overview.find_replay(conn, made)
    session.show(lambda: _shape(name, walk, span, dry_run=False), lambda: Text(_started(name, walk, span)))


@command(app, "list")
def list_replays(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only walks for this subscription.")] = None,
    running: Annotated[bool, typer.Option("--running", help="Only those under way.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """List the walks over the log, the newest first: replays, and how subscriptions catch up."""
    with session.connect() as conn:
        now = overview.clock(conn)
        walks = event_overview.list_replays(conn, subscription=name, every=not running, limit=limit)
    session.show(lambda: [event_shapes.replay_shape(walk) for walk in walks], lambda: replay_table(walks, now))


@command(app, "cancel")
def cancel_replay(
    session: Session,
    replay: Annotated[int, typer.Argument(metavar="ID", min=1, help="The walk, as replay list shows it.")],
    reason: Reason = None,
) -> None:
    """Stop a replay, and cancel what of it nobody has begun."""
    with session.connect() as conn:
        gone = operations.cancel_replay(conn, replay, actor=actor(), reason=reason)
    told = "was over already" if gone is None else f"cancelled, and {gone:,} of its deliveries with it"
    session.show(
        lambda: {"id": str(replay), "changed": gone is not None, "deliveries": gone or 0},
        lambda: Text(f"walk {replay} {told}"),
    )


def _is_rewind(row: SubscriptionRow) -> bool:
    return row.ordered or row.mode == "stream"


def _told(conn: Connection, row: SubscriptionRow, span: Span) -> str:
    events = output.many(max(span.upto - span.after, 0), "event")
    where = f"position {span.after:,} to {span.upto:,} ({events} at the most)"
    if not _is_rewind(row):
        return f"replay to {row.name} what it wants of {where}"
    waiting = event_overview.count_open(conn, row.name) if row.mode == "queue" else 0
    lost = f" and cancel {waiting:,} open deliver{'y' if waiting == 1 else 'ies'}" if waiting else ""
    return f"rewind {row.name} to position {span.after:,} ({events} at the most){lost}"


def _started(name: str, walk: ReplayRow | None, span: Span) -> str:
    if walk is None:
        return f"stream {name} reads on behind position {span.after:,}"
    if walk.state == "running":
        return f"walk {walk.id} of {name} is under way; see: jobrunner replay list {name}"
    failed = f", {walk.failed:,} of them dead" if walk.failed else ""
    return f"walk {walk.id} of {name} is {walk.state}: {walk.message}{failed}"


def _shape(name: str, walk: ReplayRow | None, span: Span, *, dry_run: bool) -> dict[str, object]:
    replay = None if walk is None else event_shapes.replay_shape(walk)
    return {"subscription": name, "dry_run": dry_run, "after": span.after, "upto": span.upto, "replay": replay}


def _clock(conn: Connection) -> Callable[[], datetime]:
    return lambda: overview.clock(conn)
