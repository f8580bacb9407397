"""Jobs that a procrastinate app defers, as the elements of one enqueue_many: checked by our bounds before any SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from procrastinate.types import JobToDefer

from jobrunner.policy.models import MAX_ATTEMPTS, check_integer
from jobrunner.procrastinate.causes import current
from jobrunner.procrastinate.talks import Dumps, Talk, ask
from jobrunner.store.queries import query

_DEFER = query("procrastinate_defer")
_DEFER_PERIODIC = query("procrastinate_defer_periodic")

_SCOPE = "procrastinate"  # of queueing locks in unique_keys: they are not bound to a task


def defer_jobs(dumps: Dumps | None, *, jobs: Iterable[JobToDefer]) -> Talk:
    """Write *jobs*; [{id}] in their order. *dumps* is the app's own encoder of arguments.

    Raises OutOfBounds for a priority that is no smallint, before any SQL.
    """
    return ask(_DEFER, jobs=f"[{','.join(_element(job, dumps) for job in jobs)}]")


def defer_periodic_job(
    dumps: Dumps | None,
    *,
    queue: str,
    lock: str | None,
    queueing_lock: str | None,
    task_name: str,
    priority: int,
    periodic_id: str,
    defer_timestamp: int,
    args: Mapping[str, Any],
) -> Talk:
    """Write the job of one tick, [{id}]; the id is None when somebody else did."""
    job = JobToDefer(queue, task_name, priority, lock, queueing_lock, dict(args), None)
    return ask(_DEFER_PERIODIC, periodic_id=periodic_id, tick=defer_timestamp, job=_element(job, dumps))


def _element(job: JobToDefer, dumps: Dumps | None) -> str:
    check_integer("priority", job.priority, -32768, 32767)
    rest: dict[str, Any] = {
        "task": job.task_name,
        "queue": job.queue_name,
        "priority": job.priority,
        "max_attempts": MAX_ATTEMPTS,  # the task's retry strategy decides, not this number
    }
    headers: dict[str, str] = {}
    if job.lock is not None:
        rest["key"] = job.lock
    if job.queueing_lock is not None:
        rest |= {"unique_key": job.queueing_lock, "unique_scope": _SCOPE}
        headers["queueing_lock"] = job.queueing_lock  # for life; the key is given up at the start
    if job.scheduled_at is not None:
        rest["run_at"] = job.scheduled_at.isoformat()
    if (cause := current()) is not None:
        headers["correlation_id"] = str(cause.correlation)
        rest |= {"cause_job_id": cause.job_id, "correlation_id": headers["correlation_id"]}
    if headers:
        rest["headers"] = headers
    args = json.dumps(job.args) if dumps is None else dumps(job.args)
    text = args.decode() if isinstance(args, bytes) else args
    return f'{json.dumps(rest)[:-1]},"args":{text}}}'
