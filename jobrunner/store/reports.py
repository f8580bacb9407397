"""What people look at beside jobs, queues and runners: tasks, groups of dead jobs, the audit, sizes of tables. Reads only.

Takes a sync connection; its values have the columns of the statements as fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jobrunner.store.queries import query
from jobrunner.store.reading import Connection, rows

_TASKS = query("tasks_known")
_DEAD_GROUPS = query("dead_groups")
_AUDIT = query("audit_page")
_TABLES = query("table_sizes")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task as a runner registered it last."""

    name: str
    queue: str
    version: int
    priority: int
    max_attempts: int
    seen_at: datetime
    runners: int
    """Live ones that know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadGroup:
    """Dead jobs of one task that died of the same."""

    task: str
    error: str | None
    """The error's beginning, its numbers as N."""
    jobs: int
    first_at: datetime
    last_at: datetime
    sample: int
    """The id of one of them."""


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
    """Up to *limit* tasks that a runner ever registered, by name."""
    return rows(conn, TaskRow, _TASKS, {"limit": limit})


def list_dead_groups(conn: Connection, *, limit: int) -> list[DeadGroup]:
    """Up to *limit* groups of dead jobs, the largest first. Reads all dead jobs."""
    return rows(conn, DeadGroup, _DEAD_GROUPS, {"limit": limit})


def list_audit(conn: Connection, which: AuditFilter, *, limit: int, after: int | None = None) -> list[AuditRow]:
    """Up to *limit* changes, the latest first; with *after* those before that id."""
    job = None if which.job is None else str(which.job)
    named = {"actor": which.actor, "action": which.action, "job": job, "after": after, "limit": limit}
    return rows(conn, AuditRow, _AUDIT, named)


def list_tables(conn: Connection) -> list[TableRow]:
    """The tables of the schema, by name. Cheap: it asks the statistics."""
    return rows(conn, TableRow, _TABLES, {})
