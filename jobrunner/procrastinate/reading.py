"""What procrastinate lists, counts and looks up, each one statement over the views; answers in the columns of its own tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, LiteralString

from procrastinate.jobs import Status

from jobrunner.errors import OutOfBounds
from jobrunner.procrastinate.talks import Say, Talk, ask
from jobrunner.store.queries import query

_STATUS = query("procrastinate_status")
_JOBS = query("procrastinate_jobs")
_STATS = query("procrastinate_stats")
_COUNTS = query("procrastinate_counts")
_TO_ABORT = query("procrastinate_to_abort")
_STALLED = query("procrastinate_stalled")
_DELETE_OLD = query("procrastinate_delete_old")
_CHECK = query("procrastinate_check")

_STATUSES = {status.value for status in Status}


def get_job_status(*, job_id: int) -> Talk:
    """[{status}]; nothing where there is no such job."""
    return ask(_STATUS, id=job_id)


def list_jobs(*, queue_name: str | None, task_name: str | None, **others: Any) -> Talk:
    """Jobs with their arguments, by id."""
    return _listed(_JOBS, queue=queue_name, task=task_name, **others)


def list_queues(*, queue_name: str | None, task_name: str | None, **others: Any) -> Talk:
    """[{name, jobs_count, stats}]."""
    return _listed(_STATS, by="queue", queue=queue_name, task=task_name, **others)


def list_tasks(*, queue_name: str | None, task_name: str | None, **others: Any) -> Talk:
    """[{name, jobs_count, stats}]."""
    return _listed(_STATS, by="task", queue=queue_name, task=task_name, **others)


def list_locks(*, queue_name: str | None, task_name: str | None, **others: Any) -> Talk:
    """[{name, jobs_count, stats}]."""
    return _listed(_STATS, by="lock", queue=queue_name, task=task_name, **others)


def _listed(statement: LiteralString, *, status: str | None, **filters: Any) -> Talk:
    if status is not None and status not in _STATUSES:
        raise OutOfBounds("status", status, f"one of {', '.join(sorted(_STATUSES))}")
    return ask(statement, status=status, **filters)


def count_jobs_status() -> Talk:
    """[{count, status}]."""
    return ask(_COUNTS)


def list_jobs_to_abort(*, queue_name: str | None) -> Talk:
    """[{id}]."""
    return ask(_TO_ABORT, queue=queue_name)


def select_stalled_jobs_by_started(*, nb_seconds: float, queue: str | None, task_name: str | None) -> Talk:
    """Jobs that have been running for so long."""
    return ask(_STALLED, running=timedelta(seconds=nb_seconds), silent=None, queue=queue, task=task_name)


def select_stalled_jobs_by_heartbeat(
    *, seconds_since_heartbeat: float, queue: str | None, task_name: str | None
) -> Talk:
    """Jobs whose worker is gone or silent; normally none, because every runner gives such jobs back."""
    return ask(_STALLED, running=None, silent=timedelta(seconds=seconds_since_heartbeat), queue=queue, task=task_name)


def delete_old_jobs(*, nb_hours: float, queue: str | None, statuses: list[str]) -> Talk:
    """Delete what ended long ago, a thousand jobs a transaction."""
    while (yield Say(_DELETE_OLD, {"hours": nb_hours, "queue": queue, "statuses": statuses}))[0]["gone"]:
        pass
    return []


def check_connection() -> Talk:
    """[{check}]: the name of our table of jobs, None where the schema is missing."""
    return ask(_CHECK)
