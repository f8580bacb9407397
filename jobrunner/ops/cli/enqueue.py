"""`jobrunner enqueue`: one job by hand."""

from __future__ import annotations

import difflib
import json
from typing import Annotated

import typer
from rich.text import Text

from jobrunner.errors import ConfigError, InvalidArguments, UnknownTask
from jobrunner.ops.cli.asking import instant
from jobrunner.ops.cli.session import Session, command
from jobrunner.policy.durations import duration
from jobrunner.policy.models import Job, Json
from jobrunner.store import overview
from jobrunner.store.calls import ENQUEUE, enqueue_params

top = typer.Typer()


@command(top, "enqueue")
def enqueue_job(
    session: Session,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Its full name, like shop.send_receipt.")],
    args: Annotated[str, typer.Option("--args", metavar="JSON", help="The arguments, an object by name.")] = "{}",
    queue: Annotated[str | None, typer.Option("--queue", help="Instead of the task's own.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="Larger runs first.")] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DURATION", help="Not before this long from now, like 5m.")
    ] = None,
    run_at: Annotated[
        str | None, typer.Option("--run-at", metavar="TIME", help="Not before, like 2030-01-31T09:00:00Z.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Jobs of one key run one at a time, in order.")] = None,
    unique_key: Annotated[
        str | None, typer.Option("--unique-key", help="Not when a job of the task waits under it.")
    ] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="What it is about, like order:42.")] = None,
    max_attempts: Annotated[int | None, typer.Option("--max-attempts", help="Failures after which it is dead.")] = None,
    version: Annotated[int | None, typer.Option("--version", help="Of the arguments.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also a task that no runner ever registered here.")] = False,
) -> None:
    """Enqueue one job and print its id."""
    if delay is not None and run_at is not None:
        raise ConfigError("--delay", "and --run-at were given: give one of them")
    job = Job(
        task,
        _arguments(task, args),
        queue=queue,
        priority=priority,
        delay=None if delay is None else duration(delay, what="--delay"),
        run_at=None if run_at is None else instant(run_at, "--run-at"),
        key=key,
        unique_key=unique_key,
        subject=subject,
        max_attempts=max_attempts,
        version=version,
    )
    params = enqueue_params(job, notify=True, cause=None, correlation=None)
    with session.connect() as conn:
        known = overview.list_known_tasks(conn)
        if known and task not in known and not force:
            near = difflib.get_close_matches(task, known, 3)
            raise UnknownTask(task, near, force="--force")
        row = conn.execute(ENQUEUE, params).fetchone()
        assert row is not None
    session.show(lambda: {"id": str(row[0])}, lambda: Text(str(row[0])))


def _arguments(task: str, text: str) -> dict[str, Json]:
    try:
        value: Json = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArguments(
            task,
            [f"--args is not JSON: {error.msg} at line {error.lineno}, column {error.colno}{_near(text, error.pos)}"],
        ) from None
    except RecursionError:
        raise InvalidArguments(task, ["--args is nested too deep"]) from None
    if not isinstance(value, dict):
        raise InvalidArguments(
            task, [f'--args must be an object, the parameters by name like {{"order_id": 42}}, got {text[:40]}']
        )
    return value


def _near(text: str, at: int) -> str:
    return f", near {text[max(0, at - 10) : at + 10]!r}" if text else ""
