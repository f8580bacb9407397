"""Rows of reports as JSON: tasks and the audit. Ids are strings, durations seconds."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from jobrunner.ops.shapes import Shape
from jobrunner.store.reports import AuditRow, TaskRow
from jobrunner.store.rows import UnknownTaskRow


def task_shape(row: TaskRow) -> Shape:
    """One task that a runner registered, with the middle and the longest of its runs."""
    shape = dataclasses.asdict(row)
    p50, p95 = shape.pop("p50_s"), shape.pop("p95_s")
    return {**shape, "p50_seconds": _number(p50), "p95_seconds": _number(p95)}


def unknown_task_shape(row: UnknownTaskRow) -> Shape:
    """A task that jobs wait for and no live runner knows."""
    told = dataclasses.asdict(row)
    age = told.pop("oldest")
    return {**told, "oldest_age_seconds": age}


def audit_shape(row: AuditRow) -> Shape:
    """One change that a person made."""
    return {**dataclasses.asdict(row), "id": str(row.id)}


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
