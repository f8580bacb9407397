"""`jobrunner jobs`: list, show, retry, cancel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import typer
from psycopg.errors import InsufficientPrivilege
from rich.console import Group
from rich.live import Live
from rich.text import Text

from jobrunner.errors import Conflict, NotFound
from jobrunner.ops import shapes
from jobrunner.ops.cli import output
from jobrunner.ops.cli.jobviews import detail, job_table, note
from jobrunner.ops.cli.session import Connection, Session, actor, command
from jobrunner.policy.durations import duration
from jobrunner.store import operations, overview
from jobrunner.store.rows import AttemptRow, JobDetail, JobFilter, JobPayload

app = typer.Typer(no_args_is_help=True, help="Look at jobs, retry and cancel them.")

State = Literal["scheduled", "ready", "blocked", "running", "succeeded", "dead", "cancelled"]
Ids = Annotated[list[int], typer.Argument(metavar="ID", min=1)]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the audit.")]

Look: TypeAlias = tuple[JobDetail, list[AttemptRow], datetime, JobPayload | None]
"""One job, its starts that did not succeed, the time, and its payload where this role may read it."""

OVER = ("succeeded", "cancelled", "dead")
_REFRESH = 0.3  # seconds, a little longer than a runner keeps progress to itself


@command(app, "list")
def list_jobs(
    session: Session,
    state: Annotated[State | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Only jobs of this task, by its full name.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only jobs with this key.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only jobs about this, like order:42.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DURATION", help="Only jobs created within, like 1h.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
    after: Annotated[
        int | None, typer.Option("--after", metavar="ID", help="Go on after this id, the last of the page before.")
    ] = None,
) -> None:
    """List jobs, history included, the newest first."""
    which = JobFilter(
        state=state,
        queue=queue,
        task=task,
        key=key,
        subject=subject,
        since=None if since is None else duration(since, what="--since"),
    )
    with session.connect() as conn:
        now, jobs = overview.clock(conn), overview.list_jobs(conn, which, limit=limit, after=after)
    session.show(lambda: [shapes.job_shape(job, now) for job in jobs], lambda: job_table(jobs, now))
    if len(jobs) == limit and not session.json:
        session.say(f"that is {limit}; for more: --after {jobs[-1].id}")


@command(app, "show")
def show_job(
    session: Session,
    job_id: Annotated[int, typer.Argument(metavar="ID", min=1)],
    full: Annotated[bool, typer.Option("--full", help="Cut nothing: arguments, results, tracebacks.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the job is over.")] = False,
) -> None:
    """Show everything about one job, and why it is not running."""
    with session.connect() as conn:
        look = _look(conn, job_id)
        if watch:
            look = _watch(session, conn, look[0], full=full)
            if not session.json and output.console().is_terminal:
                return  # the last picture of the watch is on the screen
    session.show(lambda: shapes.detail_shape(*look), lambda: detail(*look, full=full))


@command(app, "retry")
def retry_jobs(session: Session, ids: Ids, reason: Reason = None) -> None:
    """Run dead or scheduled jobs now.

    Dead ones get another life, scheduled ones (a retry among them) do not wait for their time.
    """
    with session.connect() as conn:
        found = _states(conn, ids)
        _refuse(found, {"dead", "scheduled"}, "retry")
        dead = [one for one in ids if found[one] == "dead"]
        scheduled = [one for one in ids if found[one] == "scheduled"]
        done = operations.requeue(conn, dead, actor=actor(), reason=reason) if dead else []
        done += operations.retry_now(conn, scheduled, actor=actor(), reason=reason) if scheduled else []
    missed = [one for one in ids if one not in done]
    results = [{"id": str(one), "result": "busy" if one in missed else "retried"} for one in ids]
    session.show(lambda: results, lambda: Text(f"retried {_jobs(done)}" if done else "retried nothing"))
    if missed:
        raise Conflict(f"retry {_jobs(missed)}", "someone else changes it just now; try again")


@command(app, "cancel")
def cancel_jobs(session: Session, ids: Ids, reason: Reason = None) -> None:
    """Cancel jobs that wait or run.

    What waits ends now; what runs is asked to stop and hears it within 5 s. Dead ones: dead discard.
    """
    with session.connect() as conn:
        _refuse(_states(conn, ids), {"scheduled", "ready", "blocked", "running"}, "cancel")
        results = operations.cancel(conn, ids, actor=actor(), reason=reason)
    session.show(
        lambda: [{"id": str(one), "result": result} for one, result in results],
        lambda: Group(*[Text(f"job {one}: {_CANCELLED[result]}") for one, result in results]),
    )
    if missed := [one for one, result in results if result in ("busy", "over")]:
        raise Conflict(f"cancel {_jobs(missed)}", "it changed just now; look at it with jobs show, and try again")


_CANCELLED: dict[operations.Cancelled, str] = {
    "cancelled": "cancelled",
    "requested": "runs; its runner was asked to stop it",
    "busy": "someone else changes it just now",
    "over": "was over before",
}


def _states(conn: Connection, ids: Sequence[int]) -> dict[int, str]:
    found = overview.states(conn, list(ids))
    for one in ids:
        if one not in found:
            raise NotFound("job", one)
    return found


def _refuse(found: dict[int, str], allowed: set[str], verb: str) -> None:
    """All or nothing: one id that cannot be changed stops the command before it changes any."""
    for one, state in found.items():
        if state not in allowed:
            remedy = f"; give it up with: jobrunner dead discard {one}" if verb == "cancel" and state == "dead" else ""
            raise Conflict(f"{verb} job {one}", f"it is {state}{remedy}")


def _look(conn: Connection, job_id: int) -> Look:
    job = overview.find_job(conn, job_id)
    if job is None:
        raise NotFound("job", job_id)
    return job, overview.list_attempts(conn, job_id), overview.clock(conn), _payload(conn, job_id)


def _payload(conn: Connection, job_id: int) -> JobPayload | None:
    try:
        return overview.find_payload(conn, job_id)
    except InsufficientPrivilege:
        return None


def _watch(session: Session, conn: Connection, job: JobDetail, *, full: bool) -> Look:
    """Looks again until the job is over; on a terminal the picture is redrawn, elsewhere each change is one line of talk."""
    screen = output.console()
    live = Live(console=screen, auto_refresh=False) if screen.is_terminal and not session.json else None
    said, last_look = "", False
    with live or output.nothing():
        while True:
            job, _, now, _ = look = _look(conn, job.id)
            if live:
                live.update(detail(*look, full=full), refresh=True)
            elif job.state not in OVER and said != (
                line := f"job {job.id} {job.state} {note(job, now).plain}".rstrip()
            ):
                session.say(line)
                said = line
            if job.state in OVER and (last_look or job.progress_at is None):
                return look
            last_look = job.state in OVER  # the last numbers of its progress come a moment after its end
            time.sleep(_REFRESH)


def _jobs(ids: Sequence[int]) -> str:
    told = ", ".join(str(one) for one in ids[:10])
    return f"job {told}" if len(ids) == 1 else f"{len(ids):,} jobs ({told}{', …' if len(ids) > 10 else ''})"
