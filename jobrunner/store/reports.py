"""What people look at beside jobs, queues and runners: tasks, the audit, sizes of tables. Reads views only.

Takes a sync connection; its values have the columns of the statements as fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from jobrunner.store.queries import query
from jobrunner.store.reading import Connection, rows

_TASKS = query("tasks_known")
_AUDIT = query("audit_page")
_TABLES = query("table_sizes")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task as a runner registered it last, and how it went; one that only ran has no queue."""

    name: str
    queue: str | None
    version: int | None
    max_attempts: int | None
    last_known: datetime | None
    runners: int
    """Live ones that know it."""
    n_1h: int
    """Starts that ended within an hour."""
    failed_1h: int
    p50_s: Decimal | None
    """Seconds, of those that succeeded."""
    p95_s: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One change that a person made."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    jobs: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which changes; None is no condition."""

    actor: str | None = None
    action: str | None = None
    job: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One table, with its partitions."""

    name: str
    dead_rows: int
    """That a vacuum would take away."""
    bytes: int


def list_tasks(conn: Connection, *, limit: int) -> list[TaskRow]:
    """Up to *limit* tasks that a runner registered or that ran lately, by name. Reads an hour of history."""
    return rows(conn, TaskRow, _TASKS, {"limit": limit})


def list_audit(conn: Connection, which: AuditFilter, *, limit: int, after: int | None = None) -> list[AuditRow]:
    """Up to *limit* changes, the latest first; with *after* those before that id."""
    job = None if which.job is None else str(which.job)
    named = {"actor": which.actor, "action": which.action, "job": job, "after": after, "limit": limit}
    return rows(conn, AuditRow, _AUDIT, named)


def list_tables(conn: Connection) -> list[TableRow]:
    """The tables of the schema, by name. Cheap: it asks the statistics."""
    return rows(conn, TableRow, _TABLES, {})
