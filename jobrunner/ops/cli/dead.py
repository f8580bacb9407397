"""`jobrunner dead`: list, groups, requeue, discard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.errors import ConfigError, Conflict, NotFound, Refused
from jobrunner.ops import shapes
from jobrunner.ops.cli import output
from jobrunner.ops.cli.asking import confirm
from jobrunner.ops.cli.jobs import Reason
from jobrunner.ops.cli.jobviews import dead_group_table, dead_table
from jobrunner.ops.cli.session import Connection, Session, actor, command
from jobrunner.policy.durations import duration
from jobrunner.store import operations, overview
from jobrunner.store.rows import DeadFilter, DeadId

app = typer.Typer(no_args_is_help=True, help="Look at dead jobs, requeue and discard them.")

BATCH = 500
"""Jobs of one transaction of a bulk change: small enough that nobody waits for its locks."""

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID")]
Queue = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.")]
Task = Annotated[str | None, typer.Option("--task", help="Only jobs of this task, by its full name.")]
Error = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="Only jobs whose error has this in it, in any case.")
]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="DURATION", help="Only jobs dead for at least, like 2d.")
]
NewerThan = Annotated[
    str | None, typer.Option("--newer-than", metavar="DURATION", help="Only jobs dead for less than, like 1h.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the first to die first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
All = Annotated[bool, typer.Option("--all", help="All dead jobs: needed where there is no id and no filter.")]

_PAST = {"requeue": "requeued", "discard": "discarded"}

Change = Callable[[Connection, Sequence[int]], list[int]]


@command(app, "list")
def list_dead(
    session: Session,
    queue: Queue = None,
    task: Task = None,
    error: Error = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """List dead jobs, the latest first."""
    which = _filter(queue, task, error, older_than, newer_than)
    with session.connect() as conn:
        now, jobs = overview.clock(conn), overview.list_dead(conn, which, limit=limit)
    session.show(lambda: [shapes.job_shape(job, now) for job in jobs], lambda: dead_table(jobs, now))
    if len(jobs) == limit and not session.json:
        session.say(f"that is {limit}; there may be more: --limit")


@command(app, "groups")
def list_dead_groups(
    session: Session,
    queue: Queue = None,
    task: Task = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """List the faults that dead jobs have in common: the same task and error, whatever the numbers and quoted parts in it."""
    with session.connect() as conn:
        now = overview.clock(conn)
        groups = overview.list_dead_groups(conn, queue=queue, task=task, limit=limit)
    session.show(lambda: [shapes.dead_group_shape(group) for group in groups], lambda: dead_group_table(groups, now))


@command(app, "requeue")
def requeue_dead(
    session: Session,
    ids: Ids = None,
    queue: Queue = None,
    task: Task = None,
    error: Error = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    spread: Annotated[
        str, typer.Option("--spread", metavar="DURATION", help="Start them evenly over this time, like 10m.")
    ] = "0s",
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    every: All = False,
) -> None:
    """Give dead jobs another life.

    Their counters go back to 0. Many are changed 500 a transaction: stop it, and a part is done.
    """
    over, who = duration(spread, what="--spread"), actor()
    _change(
        session,
        "requeue",
        _filter(queue, task, error, older_than, newer_than),
        ids,
        lambda conn, batch: operations.requeue(conn, batch, spread=over, actor=who, reason=reason),
        limit=limit,
        dry_run=dry_run,
        yes=yes,
        every=every,
    )


@command(app, "discard")
def discard_dead(
    session: Session,
    ids: Ids = None,
    queue: Queue = None,
    task: Task = None,
    error: Error = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    every: All = False,
) -> None:
    """Give dead jobs up: they never run again.

    They go to history as cancelled. Many are changed 500 a transaction: stop it, and a part is done.
    """
    who = actor()
    _change(
        session,
        "discard",
        _filter(queue, task, error, older_than, newer_than),
        ids,
        lambda conn, batch: operations.discard(conn, batch, actor=who, reason=reason),
        limit=limit,
        dry_run=dry_run,
        yes=yes,
        every=every,
    )


def _filter(
    queue: str | None, task: str | None, error: str | None, older_than: str | None, newer_than: str | None
) -> DeadFilter:
    return DeadFilter(
        queue=queue,
        task=task,
        error=error,
        older_than=None if older_than is None else duration(older_than, what="--older-than"),
        newer_than=None if newer_than is None else duration(newer_than, what="--newer-than"),
    )


def _change(
    session: Session,
    verb: str,
    which: DeadFilter,
    ids: list[int] | None,
    change: Change,
    *,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    every: bool,
) -> None:
    """Chooses, asks, then changes in batches, each a transaction of its own: a bulk change that is stopped has done a part."""
    if not ids and which == DeadFilter() and not every:
        raise Refused(f"{verb} all dead jobs", "--all")
    if ids and every:
        raise ConfigError("--all", "and ids were given: give one of them")
    with session.connect() as conn:
        chosen = overview.choose_dead(conn, which, ids=ids or None, limit=limit)
        if ids:
            _explain_missing(conn, verb, ids, chosen)
        if dry_run:
            session.show(lambda: _result(verb, chosen, [], dry_run=True), lambda: _preview(verb, chosen))
            return
        if not ids and len(chosen) > 1 and not yes:
            _confirm(session, verb, chosen)
        done: list[int] = []
        try:
            with output.bulk_bar(
                f"{verb} dead jobs", len(chosen), quiet=session.quiet or len(chosen) <= BATCH
            ) as advance:
                for start in range(0, len(chosen), BATCH):
                    batch = [one.id for one in chosen[start : start + BATCH]]
                    done += change(conn, batch)
                    advance(len(batch))
        except BaseException:
            session.say(f"stopped: {_PAST[verb]} {len(done):,} of {output.many(len(chosen), 'dead job')}")
            raise
    session.show(
        lambda: _result(verb, chosen, done, dry_run=False),
        lambda: Text(f"{_PAST[verb]} {len(done):,} of {output.many(len(chosen), 'dead job')}"),
    )
    if ids and len(done) < len(chosen):
        raise Conflict(
            f"{verb} {len(chosen) - len(done)} of these jobs",
            "someone else changed them meanwhile; look with jobs show",
        )


def _explain_missing(conn: Connection, verb: str, ids: list[int], chosen: Sequence[DeadId]) -> None:
    """Ids are meant one by one: one that is not dead stops the command before it changes any. A filter leaves dead ones out."""
    missing = sorted(set(ids) - {one.id for one in chosen})
    states = overview.states(conn, missing) if missing else {}
    for one in missing:
        if one not in states:
            raise NotFound("job", one)
        if states[one] != "dead":
            raise Conflict(f"{verb} job {one}", f"it is {states[one]}, not dead")


def _confirm(session: Session, verb: str, chosen: Sequence[DeadId]) -> None:
    action = f"{verb} {output.many(len(chosen), 'job')}"
    confirm(session, action, lambda: _preview(verb, chosen))


def _preview(verb: str, chosen: Sequence[DeadId]) -> RenderableType:
    counted = Counter((one.task, one.queue) for one in chosen)
    if not counted:
        return Text(f"would {verb} nothing: no dead job matches")
    rows = [(output.count(many), task, queue) for (task, queue), many in counted.most_common(20)]
    return Group(
        Text(f"would {verb} {output.many(len(chosen), 'job')}:"),
        output.table(">jobs", "task", "queue", rows=rows, flexible="task"),
    )


def _result(verb: str, chosen: Sequence[DeadId], done: Sequence[int], *, dry_run: bool) -> shapes.Shape:
    return {
        "action": verb,
        "dry_run": dry_run,
        "matched": len(chosen),
        "changed": len(done),
        "ids": [str(one) for one in (done if not dry_run else [one.id for one in chosen])],
    }
