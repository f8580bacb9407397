"""What the pages and the API tell: each function reads on one connection, inside one snapshot, and returns plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jobrunner.errors import NotFound
from jobrunner.ops import event_shapes, report_shapes, shapes
from jobrunner.ops.look import look
from jobrunner.ops.shapes import Shape
from jobrunner.store import overview, reports
from jobrunner.store.migrate import installed
from jobrunner.store.reading import Connection
from jobrunner.store.reports import AuditFilter
from jobrunner.store.rows import DeadFilter, JobFilter, JobRow
from jobrunner.version import VERSION

TRACE = 200
"""The most nodes of a job's tree that are told with it."""

MANY = 1000
"""The longest list that has no pages."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""From which the cursors of /dead count microseconds."""

_LATEST = 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of everything at one moment: dear, because it counts all jobs."""

    overview: Shape
    subscriptions: list[Shape]
    runners: list[Shape]
    groups: list[Shape]
    latest_dead: list[Shape]


def snapshot(conn: Connection) -> Snapshot:
    """What the overview shows."""
    found = look(conn)
    dead = overview.list_dead(conn, DeadFilter(), limit=_LATEST)
    return Snapshot(
        overview=found.shape(),
        subscriptions=[event_shapes.subscription_shape(row) for row in found.events.subscriptions],
        runners=[shapes.runner_shape(row) for row in found.runners],
        groups=[shapes.dead_group_shape(row) for row in overview.list_dead_groups(conn, limit=_LATEST)],
        latest_dead=[shapes.job_shape(job, found.at) for job in dead],
    )


def listing(at: datetime, items: list[Shape], next_cursor: str | None = None) -> Shape:
    """A list as every list is told; *next_cursor* is None on its last page."""
    return {"at": at, "items": items, "next_cursor": next_cursor}


def jobs(conn: Connection, which: JobFilter, limit: int, cursor: int | None) -> Shape:
    """One page of jobs, history included, the newest first."""
    now, found = overview.clock(conn), overview.list_jobs(conn, which, limit=limit + 1, after=cursor)
    return _page(now, found, limit, lambda last: str(last.id))


def dead(conn: Connection, which: DeadFilter, limit: int, cursor: tuple[datetime, int] | None) -> Shape:
    """One page of dead jobs, the latest to die first."""
    now, found = overview.clock(conn), overview.list_dead(conn, which, limit=limit + 1, after=cursor)
    return _page(now, found, limit, _death)


def _page(now: datetime, found: list[JobRow], limit: int, cursor: Any) -> Shape:
    more = cursor(found[limit - 1]) if len(found) > limit else None
    return listing(now, [shapes.job_shape(job, now) for job in found[:limit]], more)


def _death(last: JobRow) -> str:
    assert last.finished_at is not None
    return f"{(last.finished_at - EPOCH) // timedelta(microseconds=1)}-{last.id}"


def job(conn: Connection, job_id: int, *, payload: bool) -> Shape:
    """Everything about one job: its attempts, why it does not run, and the tree of causes that it belongs to.

    Raises:
        NotFound: there is none.
    """
    found = overview.find_job(conn, job_id)
    if found is None:
        raise NotFound("job", job_id)
    attempts, nodes = overview.list_attempts(conn, job_id), overview.trace(conn, f"job:{job_id}", limit=TRACE)
    told = shapes.detail_shape(
        found, attempts, overview.clock(conn), overview.find_payload(conn, job_id) if payload else None
    )
    hidden = {} if payload else {"args": None, "headers": None, "result": None}
    return {**told, **hidden, "payload_shown": payload, "trace": [shapes.trace_shape(node) for node in nodes]}


def trace(conn: Connection, ref: str, limit: int) -> Shape:
    """The tree of everything that one fact caused.

    Raises:
        NotFound: nothing is known of it.
    """
    nodes = overview.trace(conn, f"job:{ref}" if ref.isascii() and ref.isdecimal() else ref, limit=limit)
    if not nodes or all(node.state == "dropped" for node in nodes):
        raise NotFound("trace of", ref[:80], "give a subject like order:42, job:ID or event:UUID")
    return listing(overview.clock(conn), [shapes.trace_shape(node) for node in nodes])


def runners(conn: Connection, *, gone: bool) -> Shape:
    """The runners; with *gone* also those that ended within a day."""
    found = overview.list_runners(conn, gone=gone)
    return listing(overview.clock(conn), [shapes.runner_shape(row) for row in found])


def tasks(conn: Connection) -> Shape:
    """The tasks that runners registered, and in `unknown` those that jobs wait for and no live runner knows."""
    found, unknown = reports.list_tasks(conn, limit=MANY), overview.list_unknown_tasks(conn)
    told = listing(overview.clock(conn), [report_shapes.task_shape(row) for row in found])
    return {**told, "unknown": [report_shapes.unknown_task_shape(row) for row in unknown]}


def dead_groups(conn: Connection, limit: int) -> Shape:
    """Dead jobs by what they died of, most jobs first."""
    found = overview.list_dead_groups(conn, limit=limit)
    return listing(overview.clock(conn), [shapes.dead_group_shape(row) for row in found])


def audit(conn: Connection, which: AuditFilter, limit: int, cursor: int | None) -> Shape:
    """One page of what people changed, the latest first."""
    found = reports.list_audit(conn, which, limit=limit + 1, after=cursor)
    more = str(found[limit - 1].id) if len(found) > limit else None
    return listing(overview.clock(conn), [report_shapes.audit_shape(row) for row in found[:limit]], more)


def meta(conn: Connection, *, payload: bool) -> Shape:
    """Which version this is, on which schema, and what it can do."""
    there = installed(conn)
    return {
        "at": overview.clock(conn),
        "version": VERSION,
        "schema_version": there.version if there else None,
        "capabilities": {"writes": False, "payloads": payload},
    }
