"""Rows as JSON: takes the values of store, returns plain data. Ids are strings, times RFC 3339 in UTC, durations seconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from jobrunner.ops.attention import Attention
from jobrunner.policy.progress import Progress
from jobrunner.store.rows import (
    AttemptRow,
    DeadGroup,
    JobDetail,
    JobPayload,
    JobRow,
    QueueRow,
    Recent,
    RunnerRow,
    TraceRow,
)

Shape: TypeAlias = dict[str, Any]


def to_json(value: object, *, short: bool = False) -> str:
    """*value* as readable JSON text; with *short* on one line when it is a short one."""
    line = json.dumps(value, default=_plain, ensure_ascii=False) if short else ""
    return line if 0 < len(line) <= _SHORT else json.dumps(value, default=_plain, ensure_ascii=False, indent=2)


_SHORT = 72


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return round(value.total_seconds(), 3)
        case UUID():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form here")


def job_shape(job: JobRow, now: datetime) -> Shape:
    """One job of a list."""
    return {
        "id": str(job.id),
        "state": job.state,
        "blocked_on": job.blocked_on,
        "queue": job.queue,
        "task": job.task,
        "version": job.version,
        "priority": job.priority,
        "run_at": job.run_at,
        "attempt": job.attempt,
        "failures": job.failures,
        "crashes": job.crashes,
        "max_attempts": job.max_attempts,
        "key": job.key,
        "subject": job.subject,
        "runner": _id(job.runner_id),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "reason": job.reason,
        "error": job.error,
        "progress": progress_shape(job.progress(now)),
    }


def detail_shape(
    job: JobDetail, attempts: Sequence[AttemptRow], now: datetime, payload: JobPayload | None = None
) -> Shape:
    """One job with everything that belongs to it; without *payload* it has no `args`, `headers` and `result`."""
    return {
        **job_shape(job, now),
        "unique_key": job.unique_key,
        "correlation_id": job.correlation_id,
        "cause_job_id": _id(job.cause_job_id),
        "cause_event": job.cause_event,
        "parent_id": _id(job.parent_id),
        **({} if payload is None else _fields(payload)),
        "runner_host": job.runner_host,
        "runner_pid": job.runner_pid,
        "cancel_requested_at": job.cancel_requested_at,
        "cancel_requested_by": job.cancel_requested_by,
        "attempts": [{**_fields(attempt, "runner_id"), "runner": _id(attempt.runner_id)} for attempt in attempts],
        "why": job.why,
    }


def dead_group_shape(group: DeadGroup) -> Shape:
    """One fault that dead jobs have in common."""
    return {**_fields(group, "sample_id"), "sample_id": str(group.sample_id)}


def progress_shape(progress: Progress | None) -> Shape | None:
    """The same object wherever progress is shown."""
    if progress is None:
        return None
    return {**progress.as_json(), "estimated_completion": progress.estimated_completion}


def queue_shape(queue: QueueRow) -> Shape:
    """One queue; `oldest_ready_age_seconds` is null when nothing is ready."""
    return {**_fields(queue, "oldest_ready"), "oldest_ready_age_seconds": queue.oldest_ready}


def runner_shape(runner: RunnerRow) -> Shape:
    """One runner; `queues` null means all."""
    renamed = {"id": str(runner.id), "beat_age_seconds": runner.beat_age, "poll_seconds": runner.poll}
    return {**_fields(runner, "id", "beat_age", "poll"), **renamed}


def trace_shape(node: TraceRow) -> Shape:
    """One node of a tree of causes."""
    return {**_fields(node, "id", "cause"), "id": _id(node.id), "cause": _id(node.cause)}


def overview_shape(
    at: datetime,
    queues: Sequence[QueueRow],
    runners: Sequence[RunnerRow],
    recent: Recent,
    minutes: int,
    attention: Sequence[Attention],
    events: Shape,
) -> Shape:
    """The state of everything at *at*; *events* is what it says of the outbox and the subscriptions."""
    ages = [queue.oldest_ready for queue in queues if queue.oldest_ready is not None]
    alive = [runner for runner in runners if runner.state == "alive"]
    return {
        "at": at,
        "jobs": {state: sum(getattr(queue, state) for queue in queues) for state in COUNTED},
        "oldest_ready_age_seconds": max(ages, default=None),
        "finished": {
            "minutes": minutes,
            "succeeded": recent.succeeded,
            "cancelled": recent.cancelled,
            "per_second": round((recent.succeeded + recent.cancelled) / (minutes * 60), 2),
        },
        "died_in_last_hour": recent.died,
        "runners": {
            "alive": len(alive),
            "silent": len(runners) - len(alive),
            "slots": sum(runner.slots for runner in alive),
            "busy": sum(runner.busy for runner in alive),
        },
        **events,
        "queues": [queue_shape(queue) for queue in queues],
        "attention": [dataclasses.asdict(one) for one in attention],
    }


COUNTED = ("ready", "scheduled", "retrying", "blocked", "running", "dead")
"""The counts of a queue, in the order in which they are shown."""


def _id(value: int | None) -> str | None:
    return None if value is None else str(value)


def _fields(row: Any, *without: str) -> Shape:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name not in without}
