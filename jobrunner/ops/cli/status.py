"""`jobrunner status` (for people) and `jobrunner health` (for probes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.errors import JobrunnerError, SchemaMismatch, Unhealthy
from jobrunner.ops import attention, shapes
from jobrunner.ops.cli import output
from jobrunner.ops.cli.queues import queue_table
from jobrunner.ops.cli.session import Connection, Session, command
from jobrunner.ops.look import MINUTES, look
from jobrunner.policy.durations import duration
from jobrunner.store import overview

top = typer.Typer()


@command(top, "status")
def show_status(session: Session) -> None:
    """Show jobs by queue and state, runners, subscriptions, what finished, and what needs a person.

    Reads the whole table of jobs: for people; a probe asks `health`.
    """
    with session.connect() as conn:
        found = look(conn)
    shape = found.shape()
    session.show(
        lambda: shape,
        lambda: Group(_summary(shape), Text(), queue_table(list(found.queues)), *_attention(found.attention)),
    )


def _summary(shape: shapes.Shape) -> RenderableType:
    jobs, runners, finished = shape["jobs"], shape["runners"], shape["finished"]
    age = shape["oldest_ready_age_seconds"]
    busy = f"{runners['busy']} of {runners['slots']} slots busy"
    silent = f", {runners['silent']} silent" if runners["silent"] else ""
    rate = f" in {MINUTES} min ({finished['per_second']:,}/s)"
    return output.facts(
        [
            ("jobs", ", ".join(f"{jobs[state]:,} {state}" for state in shapes.COUNTED if jobs[state]) or "none"),
            ("oldest ready", None if age is None else f"due for {output.rough(age)}"),
            ("finished", f"{finished['succeeded']:,} succeeded, {finished['cancelled']:,} cancelled{rate}"),
            ("runners", f"{runners['alive']} alive{silent}, {busy}" if runners["alive"] or silent else "none"),
            ("outbox", _outbox(shape)),
            ("subscriptions", _subscriptions(shape)),
        ]
    )


def _outbox(shape: shapes.Shape) -> str | None:
    """None where nobody publishes."""
    outbox = shape["outbox"]
    if outbox["pending"]:
        return f"{output.many(outbox['pending'], 'event')}, the oldest for {output.rough(outbox['oldest_age_seconds'])}"
    return (
        f"empty; {output.many(outbox['head_position'], 'event')} recorded so far" if outbox["head_position"] else None
    )


def _subscriptions(shape: shapes.Shape) -> str | None:
    counted = [f"{many:,} {one.replace('_', ' ')}" for one, many in shape["subscriptions"].items() if many]
    return ", ".join(counted) or None


def _attention(found: Sequence[attention.Attention]) -> list[RenderableType]:
    if not found:
        return [Text("\nall is well", style="green")]
    return [Text(), *[finding(one) for one in found]]


def finding(one: attention.Attention) -> Text:
    """What was found, and below it what shows more or mends it."""
    lead = Text(f"{one.severity:9}", output.STYLES[one.severity])
    return output.hanging(lead, Text.assemble(one.message, (f"\n{one.hint}", "dim")))


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a probe looked at."""

    name: str
    problem: str | None
    """None: it passed."""
    facts: shapes.Shape


@command(top, "health")
def check_health(
    session: Session,
    max_age: Annotated[
        str, typer.Option("--max-age", metavar="DURATION", help="The front of a queue may have been due for so long.")
    ] = "5m",
    min_runners: Annotated[int, typer.Option("--min-runners", min=0, help="So many runners must be alive.")] = 1,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", help="Only these queues; give it several times.")
    ] = None,
) -> None:
    """Exit with 0 when healthy, else with 3 and what is not.

    It looks at the database, the schema, the live runners, and how long the front of each queue that is not paused has been
    due. Cheap at any size: made for a probe every few seconds.
    """
    limit = duration(max_age, what="--max-age")
    try:
        with session.connect() as conn:
            checks = [
                Check("database", None, {}),
                Check("schema", None, {}),
                *_checks(conn, limit, min_runners, queue or None),
            ]
    except SchemaMismatch as error:
        checks = [
            Check("database", None, {}),
            Check("schema", str(error), {"found": error.found, "wanted": error.wanted}),
        ]
    except JobrunnerError as error:
        if session.json:
            output.write_json(_health_shape([Check("database", str(error), {})]))
        raise
    session.show(lambda: _health_shape(checks), lambda: _health_view(checks))
    if problems := [check.problem for check in checks if check.problem]:
        raise Unhealthy(problems)


def _checks(conn: Connection, limit: timedelta, min_runners: int, queues: list[str] | None) -> list[Check]:
    alive = [one for one in overview.list_runners(conn) if one.state == "alive"]
    if queues is not None:
        alive = [one for one in alive if one.queues is None or set(one.queues) & set(queues)]
    fronts = [one for one in overview.list_fronts(conn) if queues is None or one.queue in queues]
    where = "" if queues is None else f" for {', '.join(queues)}"
    few = (
        f"{len(alive) or 'no'} live runner{'s' * (len(alive) != 1)}{where}, {min_runners} wanted"
        if len(alive) < min_runners
        else None
    )
    late = [one for one in fronts if one.waited > limit]
    told = "; ".join(
        f"queue {one.queue} does not move: job {one.id} at its front has been due for {output.rough(one.waited)}"
        for one in late
    )
    longest = max((one.waited for one in fronts), default=None)
    return [
        Check("runners", few, {"alive": len(alive), "wanted": min_runners}),
        Check("queues", told or None, {"oldest_front_age_seconds": longest, "limit_seconds": limit}),
    ]


def _health_shape(checks: Sequence[Check]) -> shapes.Shape:
    return {
        "status": "fail" if any(check.problem for check in checks) else "pass",
        "checks": {
            check.name: {"status": "fail" if check.problem else "pass", "problem": check.problem, **check.facts}
            for check in checks
        },
    }


def _health_view(checks: Sequence[Check]) -> RenderableType:
    return Group(
        *[
            Text.assemble(
                (f"{'fail' if check.problem else 'ok':6}", "bold red" if check.problem else "green"),
                f"{check.name:10}",
                check.problem or "",
            )
            for check in checks
        ]
    )
