"""Calls on their way in: a Job as the parameters of one statement. Pure; who executes it is worker.app's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from jobrunner.policy.models import Job, Json, encode
from jobrunner.store.queries import query

ENQUEUE = query("enqueue")
ENQUEUE_MANY = query("enqueue_many")
FINISH_IN_PLACE = query("finish_in_place")
FENCE = query("fence")
NAME_CAUSE = query("name_cause")
ADVANCE_STREAM = query("advance_stream")


def enqueue_params(job: Job, *, notify: bool, cause: int | None, correlation: UUID | None) -> dict[str, Any]:
    """The parameters of ENQUEUE. Raises what `encode` raises, before any SQL."""
    return {
        "task": job.task,
        "args": encode(job.args, job.task),
        "queue": job.queue,
        "priority": job.priority,
        "run_at": job.run_at,
        "delay": job.delay,
        "key": job.key,
        "unique_key": job.unique_key,
        "unique_until": job.unique_until,
        "subject": job.subject,
        "version": job.version,
        "max_attempts": job.max_attempts,
        "headers": encode(_headers(job, correlation), job.task, root="headers"),
        "notify": notify,
        "cause_job_id": cause,
        "correlation_id": correlation,
    }


def enqueue_many_params(
    jobs: Sequence[Job], *, notify: bool, cause: int | None, correlation: UUID | None
) -> dict[str, Any]:
    """The parameters of ENQUEUE_MANY: one JSON array. What calls in a row have in common is encoded once."""
    elements, before, opening = [], None, ""
    for job in jobs:
        options = _options(job)
        if options != before:
            before, opening = options, encode(_rest(job, cause, correlation), job.task, root="headers")[:-1]
        elements.append(f'{opening},"args":{encode(job.args, job.task)}}}')
    return {"jobs": f"[{','.join(elements)}]", "notify": notify}


_options = attrgetter(
    "task",
    "queue",
    "priority",
    "run_at",
    "delay",
    "key",
    "unique_key",
    "unique_until",
    "subject",
    "version",
    "max_attempts",
    "headers",
)


def _rest(job: Job, cause: int | None, correlation: UUID | None) -> dict[str, Json]:
    rest: dict[str, Json] = {"task": job.task}
    if job.queue is not None:
        rest["queue"] = job.queue
    if job.priority is not None:
        rest["priority"] = job.priority
    if job.run_at is not None:
        rest["run_at"] = job.run_at.isoformat()
    if job.delay is not None:
        rest["delay"] = job.delay.total_seconds()
    if job.key is not None:
        rest["key"] = job.key
    if job.unique_key is not None:
        rest["unique_key"] = job.unique_key
        rest["unique_until"] = job.unique_until
    if job.subject is not None:
        rest["subject"] = job.subject
    if job.version is not None:
        rest["version"] = job.version
    if job.max_attempts is not None:
        rest["max_attempts"] = job.max_attempts
    if cause is not None:
        rest["cause_job_id"] = cause
    if correlation is not None:
        rest["correlation_id"] = str(correlation)
    if headers := _headers(job, correlation):
        rest["headers"] = dict(headers)
    return rest


def _headers(job: Job, correlation: UUID | None) -> Mapping[str, Json]:
    """The job's headers, with the tree it belongs to: so that its own handler knows it without another look."""
    if correlation is None or "correlation_id" in job.headers:
        return job.headers
    return {**job.headers, "correlation_id": str(correlation)}
