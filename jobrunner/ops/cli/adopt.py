"""`jobrunner adopt`: take over what waits in the tables of another library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.errors import Conflict
from jobrunner.ops import adopting
from jobrunner.ops.adopting import Adoption, Report
from jobrunner.ops.cli import output
from jobrunner.ops.cli.session import Connection, Session, actor, command, connect
from jobrunner.ops.shapes import Shape
from jobrunner.store import adoption
from jobrunner.store.adoption import Preview, Undone
from jobrunner.store.failures import told_plainly
from jobrunner.store.migrate import check, installed

app = typer.Typer(no_args_is_help=True, help="Take over what waits in the tables of another library.")

_TURN = 0.2  # seconds between two looks whether another adoption is over
_LINES = 2.0  # seconds between two lines of progress, where there is no terminal
_SHOWN = 20

_WHY = {
    "running": "their lock has a job that runs there; run it again, or with --wait",
    "behind": "one before them in their lock stays",
    "held": "somebody else holds them right now",
    "open": "a transaction that is older than the closing of their lock may still take one",
    "queueing_lock": "a job here waits under their queueing lock; they go when it starts",
    "refused": "jobrunner does not take them",
}


@command(app, "procrastinate")
def adopt_procrastinate(
    session: Session,
    schema: Annotated[
        str | None,
        typer.Option("--schema", metavar="NAME", help="Where procrastinate's tables are. Else they are looked for."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until nothing waits or runs in procrastinate's tables.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be moved and do nothing.")] = False,
) -> None:
    """Move what waits in procrastinate's own tables to jobrunner's.

    Its workers may run meanwhile, and both sides may defer. 500 jobs a transaction: stop it, and a part is done; run
    it again, and it goes on.
    """
    with session.server() as dsn, told_plainly(dsn), connect(dsn) as conn, told_plainly(dsn, conn):
        check(installed(conn))
        where = adopting.choose_schema(conn, schema)
        if dry_run:
            found, jobs, workers = adopting.preview(conn, where)
            session.show(lambda: _preview_shape(where, found, jobs, workers), lambda: _preview(where, found, jobs))
            return
        with connect(dsn) as other, _turn(session, other):
            report = _adopt(session, conn, where, wait=wait)
    session.show(lambda: _shape(report), lambda: _view(report))
    if report.refused:
        many = output.many(len(report.refused), "job")
        raise Conflict(
            f"move {many}", "jobrunner does not take them; mend or cancel them in procrastinate and run it again"
        )


def _adopt(session: Session, conn: Connection, schema: str, *, wait: bool) -> Report:
    total = adopting.undone(conn, schema).waiting
    with output.bulk_bar("adopt jobs", total, quiet=session.quiet) as advance:
        work = Adoption(conn, schema, actor=actor(), advance=_lines(session, advance, total), waits=_patience(session))
        try:
            work.run(wait=wait)
        except BaseException:
            session.say(f"stopped: moved {output.many(work.report.moved, 'job')}; run it again to go on")
            raise
    return work.report


def _lines(session: Session, advance: output.Advance, total: int) -> Callable[[int], None]:
    """Moves the bar, and writes a line now and then where there is none."""
    done, due = 0, time.monotonic() + _LINES
    silent = output.console(err=True).is_terminal

    def moved(n: int) -> None:
        nonlocal done, due
        done += n
        advance(n)
        if not silent and n and time.monotonic() >= due:
            session.say(f"moved {done:,} of {max(done, total):,}")
            due = time.monotonic() + _LINES

    return moved


def _patience(session: Session) -> Callable[[Undone], None]:
    """Says once for what `--wait` waits."""
    said = False

    def waits(there: Undone) -> None:
        nonlocal said
        if not said:
            running = f"{output.many(there.running, 'job')} that {'runs' if there.running == 1 else 'run'} there"
            staying = f"{output.many(there.waiting, 'job')} that cannot move yet"
            found = [told for told, n in ((running, there.running), (staying, there.waiting)) if n]
            session.say(f"waiting for {' and '.join(found) or 'the last ones'}")
        said = True

    return waits


@contextmanager
def _turn(session: Session, other: Connection) -> Iterator[None]:
    """Inside, no second adoption is at work in this database. Held by a transaction of its own, so that a pooler keeps it too."""
    with other.transaction():
        adoption.linger(other)
        said = False
        while not adoption.take_turn(other):
            if not said:
                session.say("another adoption is at work; waiting for its end")
                said = True
            time.sleep(_TURN)
        yield


def _view(report: Report) -> RenderableType:
    told = f"moved {output.many(report.moved, 'job')}"
    if report.scheduled:
        told += f", {report.scheduled:,} of them scheduled,"
    lines: list[RenderableType] = [Text(f"{told} from procrastinate's tables in schema {report.schema}")]
    if report.marks:
        lines.append(Text(f"carried over {output.many(report.marks, 'periodic mark')}"))
    rows = [(output.count(n), reason, _WHY[reason]) for reason, n in report.left.most_common()]
    if rows:
        lines += [Text("left there:", style="yellow"), output.table(">jobs", "by", "why", rows=rows, flexible="why")]
    lines += [Text(f"  job {one.source} ({one.task}): {one.problem}") for one in report.refused[:_SHOWN]]
    if report.closed:
        told = (
            f"{output.many(report.closed, 'lock')} closed to procrastinate's workers until the moved jobs are over: "
            "what is deferred there goes on when you run it again"
        )
        lines.append(Text(told, style="yellow"))
    lines.append(_rest(report.jobs))
    return Group(*lines)


def _rest(jobs: Mapping[str, int]) -> Text:
    over = ", ".join(f"{n:,} {status}" for status, n in sorted(jobs.items()) if status not in ("todo", "doing"))
    running = jobs.get("doing", 0)
    told = [f"{running:,} still running there"] if running else []
    told += [f"history is not moved: {over}"] if over else []
    return Text("; ".join(told) or "nothing else is there", style="dim")


def _shape(report: Report) -> Shape:
    return {
        "dry_run": False,
        "schema": report.schema,
        "moved": report.moved,
        "scheduled": report.scheduled,
        "periodic_marks": report.marks,
        "left": {"total": report.left.total(), **{reason: report.left[reason] for reason in _WHY}},
        "refused": [{"id": str(one.source), "task": one.task, "problem": one.problem} for one in report.refused],
        "closed_locks": report.closed,
        **_rest_shape(report.jobs, report.workers),
    }


def _rest_shape(jobs: Mapping[str, int], workers: int) -> Shape:
    history = {status: n for status, n in sorted(jobs.items()) if status not in ("todo", "doing")}
    return {"running": jobs.get("doing", 0), "workers": workers, "history": history}


def _preview(schema: str, found: Sequence[Preview], jobs: Mapping[str, int]) -> RenderableType:
    total = sum(one.jobs for one in found)
    rows = [
        (
            output.count(one.jobs),
            output.count(one.scheduled),
            output.count(one.locked),
            output.count(one.refused),
            one.task,
            one.queue,
        )
        for one in found[:_SHOWN]
    ]
    many = output.many(total - sum(one.refused for one in found), "job")
    would = f"would move {many} from procrastinate's tables in schema {schema}"
    lines: list[RenderableType] = [Text(would)]
    if rows:
        lines.append(
            output.table(">jobs", ">scheduled", ">with lock", ">refused", "task", "queue", rows=rows, flexible="task")
        )
    if running := sum(one.running for one in found):
        lines.append(Text(f"{output.many(running, 'job')} would wait for one of their lock that runs there"))
    lines += [Text(f"  {one.task} in {one.queue}: {one.problem}") for one in found if one.problem]
    return Group(*lines, _rest(jobs))


def _preview_shape(schema: str, found: Sequence[Preview], jobs: Mapping[str, int], workers: int) -> Shape:
    return {
        "dry_run": True,
        "schema": schema,
        "waiting": sum(one.jobs for one in found),
        "scheduled": sum(one.scheduled for one in found),
        "left": {"running": sum(one.running for one in found), "refused": sum(one.refused for one in found)},
        "tasks": [
            {
                "task": one.task,
                "queue": one.queue,
                "jobs": one.jobs,
                "scheduled": one.scheduled,
                "with_lock": one.locked,
                "refused": one.refused,
                "problem": one.problem,
            }
            for one in found
        ],
        **_rest_shape(jobs, workers),
    }
