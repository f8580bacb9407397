"""`jobrunner subs`: list, show, pause, resume, remove, skip, resolve; apply and diff are in `subsapply`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from jobrunner.errors import Conflict, NotFound
from jobrunner.ops import event_shapes
from jobrunner.ops.cli import subsapply
from jobrunner.ops.cli.asking import confirm
from jobrunner.ops.cli.jobs import Reason
from jobrunner.ops.cli.session import Connection, Session, actor, command
from jobrunner.ops.cli.subviews import subscription_detail, subscription_table
from jobrunner.store import event_overview, overview
from jobrunner.store import subscription_operations as operations
from jobrunner.store.event_rows import SubscriptionRow

app = typer.Typer(no_args_is_help=True, help="Look at subscriptions and change them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The subscription, like shop.ledger.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

_SHOWN = 20  # blocked keys and walks of one subscription


@command(app, "list")
def list_subscriptions(session: Session) -> None:
    """List the subscriptions: how far each is behind, and what holds it up."""
    with session.connect() as conn:
        rows = event_overview.list_subscriptions(conn)
    session.show(lambda: [event_shapes.subscription_shape(row) for row in rows], lambda: subscription_table(rows))


@command(app, "show")
def show_subscription(session: Session, name: Name) -> None:
    """Show everything about one subscription, its blocked keys and the walks over the log for it."""
    with session.connect() as conn:
        row, now = _find(conn, name), overview.clock(conn)
        keys = event_overview.list_blocked_keys(conn, name, limit=_SHOWN)
        walks = event_overview.list_replays(conn, subscription=name, limit=_SHOWN)
    session.show(
        lambda: {
            **event_shapes.subscription_shape(row),
            "keys": [event_shapes.blocked_key_shape(key) for key in keys],
            "replays": [event_shapes.replay_shape(walk) for walk in walks],
        },
        lambda: subscription_detail(row, keys, walks, now),
    )


@command(app, "pause")
def pause_subscription(session: Session, name: Name, reason: Reason = None) -> None:
    """Stop starting deliveries; what runs goes on, and what is published waits."""
    _set_paused(session, name, reason, paused=True)


@command(app, "resume")
def resume_subscription(session: Session, name: Name, reason: Reason = None) -> None:
    """Start deliveries again."""
    _set_paused(session, name, reason, paused=False)


@command(app, "remove")
def remove_subscription(
    session: Session, name: Name, reason: Reason = None, dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Remove a subscription with its open deliveries.

    A runner whose code still has it makes it anew, from then on, when it starts.
    """
    with session.connect() as conn:
        _find(conn, name)
        waiting = event_overview.count_open(conn, name)
        told = f"remove subscription {name} and give up {_deliveries(waiting)}"
        if not dry_run and not yes:
            confirm(session, told, lambda: Text(f"would {told}"))
        gone = 0 if dry_run else operations.remove(conn, name, actor=actor(), reason=reason)
    session.show(
        lambda: {"subscription": name, "dry_run": dry_run, "deliveries": waiting if dry_run else gone},
        lambda: Text(f"would {told}" if dry_run else f"removed subscription {name}, gave up {_deliveries(gone)}"),
    )


@command(app, "skip")
def skip_event(
    session: Session,
    name: Name,
    position: Annotated[int, typer.Argument(metavar="POSITION", min=1, help="Of the event in the log.")],
    reason: Reason = None,
) -> None:
    """Let a subscription pass over one event: its delivery is given up."""
    with session.connect() as conn:
        result = operations.skip(conn, name, position, actor=actor(), reason=reason)
    if result == "busy":
        raise Conflict(f"skip event {position}", "someone else changes its delivery just now; try again")
    if result == "over":
        raise NotFound(
            "open delivery of event",
            f"{position} for {name}",
            f"see what became of it: jobrunner events show {position}",
        )
    session.show(
        lambda: {"subscription": name, "position": position, "result": result},
        lambda: Text(f"event {position}: {_SKIPPED[result]}"),
    )


_SKIPPED: dict[operations.Skipped, str] = {
    "cancelled": "its delivery is cancelled",
    "requested": "its delivery runs; its runner was asked to stop it",
    "discarded": "its dead delivery is given up",
    "skipped": "the stream will not read it",
}


@command(app, "resolve")
def resolve_key(
    session: Session,
    name: Name,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key that a dead delivery blocks.")],
    how: Annotated[operations.How, typer.Argument(metavar="retry|discard", help="What becomes of that delivery.")],
    reason: Reason = None,
) -> None:
    """Free a key that a dead delivery blocks.

    retry gives it another life, still first in its line; discard gives it up, and the next one has its turn.
    """
    with session.connect() as conn:
        job = operations.resolve_key(conn, name, key, how, actor=actor(), reason=reason)
    told = f"job {job} is tried again" if how == "retry" else f"job {job} is given up, the next has its turn"
    session.show(
        lambda: {"subscription": name, "key": key, "how": how, "job_id": str(job)}, lambda: Text(f"key {key}: {told}")
    )


subsapply.register(app)


def _find(conn: Connection, name: str) -> SubscriptionRow:
    row = event_overview.find_subscription(conn, name)
    if row is None:
        raise NotFound("subscription", name, "list them with: jobrunner subs list")
    return row


def _set_paused(session: Session, name: str, reason: str | None, *, paused: bool) -> None:
    with session.connect() as conn:
        change = operations.pause if paused else operations.resume
        changed = change(conn, name, actor=actor(), reason=reason)
    told = ("paused" if paused else "resumed") if changed else "was paused already" if paused else "was not paused"
    session.show(
        lambda: {"subscription": name, "paused": paused, "changed": changed},
        lambda: Text(f"subscription {name} {told}"),
    )


def _deliveries(number: int) -> str:
    return f"{number:,} open deliver{'y' if number == 1 else 'ies'}"
