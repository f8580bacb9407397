"""`jobrunner queues` and `jobrunner runners`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.ops import attention, shapes
from jobrunner.ops.cli import output
from jobrunner.ops.cli.jobs import Reason
from jobrunner.ops.cli.session import Session, actor, command
from jobrunner.policy.models import Job
from jobrunner.store import operations, overview
from jobrunner.store.rows import QueueRow, RunnerRow

app = typer.Typer(no_args_is_help=True, help="Look at queues, pause and resume them.")
top = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="QUEUE")]


@command(app, "list")
def list_queues(session: Session) -> None:
    """List the queues with their jobs by state."""
    with session.connect() as conn:
        queues = overview.list_queues(conn)
    session.show(lambda: [shapes.queue_shape(queue) for queue in queues], lambda: queue_table(queues))


@command(app, "pause")
def pause_queue(session: Session, name: Name, reason: Reason = None) -> None:
    """Stop starting jobs of a queue; what runs goes on, and enqueuing does too."""
    _set_paused(session, name, reason, paused=True)


@command(app, "resume")
def resume_queue(session: Session, name: Name, reason: Reason = None) -> None:
    """Start jobs of a queue again."""
    _set_paused(session, name, reason, paused=False)


def _set_paused(session: Session, name: str, reason: str | None, *, paused: bool) -> None:
    Job("x.x", queue=name)  # a name that no queue can have is refused here
    with session.connect() as conn:
        known = {queue.name for queue in overview.list_queues(conn)}
        change = operations.pause if paused else operations.resume
        changed = change(conn, name, actor=actor(), reason=reason)
    told = ("paused" if paused else "resumed") if changed else "was paused already" if paused else "was not paused"
    session.show(lambda: {"queue": name, "paused": paused, "changed": changed}, lambda: Text(f"queue {name} {told}"))
    if name not in known:
        session.say(f"note: no job, task or pause has named queue {name} so far")


@command(top, "runners")
def list_runners(
    session: Session,
    every: Annotated[bool, typer.Option("--all", help="Also those that stopped or were lost within a day.")] = False,
) -> None:
    """List the runners: where they are, what they read, how busy they are."""
    with session.connect() as conn:
        runners = overview.list_runners(conn, gone=every)
    deaf = [found for runner in runners if (found := attention.deaf(runner)) is not None]
    notes = [Text(f"{found.message}; {found.hint}", style="yellow") for found in deaf]
    session.show(
        lambda: [shapes.runner_shape(runner) for runner in runners], lambda: Group(runner_table(runners), *notes)
    )


def queue_table(queues: list[QueueRow]) -> RenderableType:
    """Queues as a table."""
    return output.table(
        "queue", ">ready", ">scheduled", ">retrying", ">blocked", ">running", ">dead", ">oldest", ">runners", "note",
        rows=(
            (
                queue.name,
                output.count(queue.ready),
                output.count(queue.scheduled),
                output.count(queue.retrying, "yellow"),
                output.count(queue.blocked),
                output.count(queue.running),
                output.count(queue.dead, "bold red"),
                output.rough(queue.oldest_ready),
                output.count(queue.runners) if queue.runners else Text("none", style="dim"),
                _note(queue),
            )
            for queue in queues
        ),
        flexible="note",
        empty="no queues yet",
    )  # fmt: skip


def _note(queue: QueueRow) -> Text:
    if queue.paused_at is None:
        return Text(queue.description or "")
    reason = f": {queue.pause_reason}" if queue.pause_reason else ""
    return Text(f"paused by {queue.paused_by}{reason}", style="yellow")


def runner_table(runners: list[RunnerRow]) -> RenderableType:
    """Runners as a table."""
    return output.table(
        "app", "host", ">pid", "state", ">busy", ">last beat", "wakes by", "queues", "tasks",
        rows=(
            (
                runner.app,
                runner.host,
                str(runner.pid),
                output.state(runner.state),
                f"{runner.busy}/{runner.slots}",
                output.rough(runner.beat_age),
                "notify" if runner.listening else Text("poll", style="yellow"),
                "all" if runner.queues is None else ", ".join(runner.queues),
                ", ".join(runner.tasks),
            )
            for runner in runners
        ),
        flexible="tasks",
        empty="no runners; start one with: jobrunner run APP",
    )  # fmt: skip
