"""`jobrunner sagas`: list, show, compensate, complete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.errors import NotFound
from jobrunner.ops import event_shapes, shapes
from jobrunner.ops.cli import output
from jobrunner.ops.cli.jobs import Reason
from jobrunner.ops.cli.session import Session, actor, command
from jobrunner.store import event_overview, overview
from jobrunner.store import subscription_operations as operations
from jobrunner.store.event_rows import SagaRow, SagaState

app = typer.Typer(no_args_is_help=True, help="Look at sagas, processes over several events, and end them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the saga, like shop.payment.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Which one of that name.")]
Status = Literal["running", "completed", "compensating", "compensated", "stuck", "needs_attention"]


@command(app, "list")
def list_sagas(
    session: Session,
    status: Annotated[Status | None, typer.Option("--status", help="Only sagas of this status.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only sagas of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """List sagas, the latest change first."""
    with session.connect() as conn:
        now, rows = overview.clock(conn), event_overview.list_sagas(conn, name=name, status=status, limit=limit)
    session.show(lambda: [event_shapes.saga_shape(row) for row in rows], lambda: _table(rows, now))


@command(app, "show")
def show_saga(
    session: Session,
    name: Name,
    key: Key,
    with_state: Annotated[
        bool, typer.Option("--state", help="Also its state, and what would undo what it did.")
    ] = False,
) -> None:
    """Show one saga; what it knows only with --state."""
    with session.connect() as conn:
        now, row = overview.clock(conn), event_overview.find_saga(conn, name, key)
        if row is None:
            raise NotFound("saga", f"{name} {key}", "it never began, or it is over for longer than its retention")
        state = event_overview.saga_state(conn, name, key) if with_state else None
    session.show(lambda: event_shapes.saga_shape(row, state), lambda: _detail(row, state, now))


@command(app, "compensate")
def compensate_saga(session: Session, name: Name, key: Key, reason: Reason = None) -> None:
    """Give a running saga up: what it did is undone, as if its own step had said so."""
    with session.connect() as conn:
        jobs = operations.compensate_saga(conn, name, key, actor=actor(), reason=reason)
    session.show(
        lambda: {"name": name, "key": key, "jobs": jobs},
        lambda: Text(
            f"saga {name} {key}: {output.many(jobs, 'job')} will undo it" if jobs else f"saga {name} {key}: over"
        ),
    )


@command(app, "complete")
def complete_saga(session: Session, name: Name, key: Key, reason: Reason = None) -> None:
    """End a saga that was mended by hand, without undoing anything."""
    with session.connect() as conn:
        status = operations.complete_saga(conn, name, key, actor=actor(), reason=reason)
    session.show(lambda: {"name": name, "key": key, "status": status}, lambda: Text(f"saga {name} {key}: {status}"))


def _table(rows: Sequence[SagaRow], now: datetime) -> RenderableType:
    return output.table(
        "name", "key", "status", ">step", ">changed", "times out", "note",
        rows=(
            (
                row.name,
                row.key,
                _status(row),
                str(row.version),
                f"{output.rough(now - row.updated_at)} ago",
                _due(row.timeout_at, now),
                Text(row.reason or ("" if row.dead_job_id is None else f"job {row.dead_job_id} is dead"), style="dim"),
            )
            for row in rows
        ),
        flexible="note",
        empty="no sagas",
    )  # fmt: skip


def _detail(row: SagaRow, state: SagaState | None, now: datetime) -> RenderableType:
    dead = None
    if row.dead_job_id is not None:
        dead = Text(f"job {row.dead_job_id} is dead; see: jobrunner jobs show {row.dead_job_id}", style="red")
    return Group(
        Text.assemble((f"{row.name}  {row.key}  ", "bold"), _status(row)),
        Text(),
        output.facts(
            [
                ("began", output.moment(row.created_at, now)),
                ("changed", output.moment(row.updated_at, now)),
                ("step", str(row.version)),
                ("times out", output.moment(row.timeout_at, now)),
                ("finished", output.moment(row.finished_at, now)),
                ("undo", f"{output.many(row.compensations, 'job')} would undo it" if row.compensations else None),
                ("reason", row.reason),
                ("waits for", dead),
                ("correlation", None if row.correlation_id is None else str(row.correlation_id)),
                ("state", None if state is None else shapes.to_json(state.state, short=True)),
                ("compensation", None if state is None else shapes.to_json(state.compensation, short=True)),
            ]
        ),
    )


def _status(row: SagaRow) -> Text:
    return Text(row.status.replace("_", " "), style=output.STYLES.get(row.status, ""))


def _due(at: datetime | None, now: datetime) -> str:
    if at is None:
        return ""
    return f"in {output.rough(at - now)}" if at > now else f"{output.rough(now - at)} ago"
