"""Rows of reports as JSON: tasks, groups of dead jobs, the audit. Ids are strings, durations seconds."""

from __future__ import annotations

import dataclasses

from jobrunner.ops.shapes import Shape
from jobrunner.store.reports import AuditRow, DeadGroup, TaskRow
from jobrunner.store.rows import UnknownTaskRow


def task_shape(row: TaskRow) -> Shape:
    """One task that a runner registered."""
    return dataclasses.asdict(row)


def unknown_task_shape(row: UnknownTaskRow) -> Shape:
    """A task that jobs wait for and no live runner knows."""
    told = dataclasses.asdict(row)
    age = told.pop("oldest")
    return {**told, "oldest_age_seconds": age}


def dead_group_shape(row: DeadGroup) -> Shape:
    """Dead jobs that died of the same; `sample` is the id of one."""
    return {**dataclasses.asdict(row), "sample": str(row.sample)}


def audit_shape(row: AuditRow) -> Shape:
    """One change that a person made."""
    return {**dataclasses.asdict(row), "id": str(row.id)}
