"""What an error of a procrastinate task means: its own retry strategy is asked, and a job that aborted itself is no failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job
from procrastinate.retry import RetryDecision
from procrastinate.tasks import Task

from jobrunner.policy.backoff import Backoff
from jobrunner.policy.durations import LONGEST
from jobrunner.policy.models import MAX_ATTEMPTS, Claimed
from jobrunner.policy.models import Job as Checked
from jobrunner.policy.outcomes import Answer, Cancel, Decision, Place
from jobrunner.telemetry import log

ABORTED = Cancel("aborted")
"""How a job ends that aborted itself; the status of procrastinate is made from these words."""

NEVER = Decision(None)


class Strategy(Backoff):
    """The rules of one task. The number of attempts is the strategy's business: the job's own `max_attempts` is not looked at."""

    __slots__ = ("_loads", "_task")
    _task: Task[Any, Any, Any]
    _loads: Callable[[str], Any]

    def __init__(self, task: Task[Any, Any, Any], loads: Callable[[str], Any]) -> None:
        super().__init__(attempts=MAX_ATTEMPTS)
        object.__setattr__(self, "_task", task)
        object.__setattr__(self, "_loads", loads)

    def rule_for(self, error: BaseException, job: Claimed | None = None) -> Answer | Decision | None:
        """When and where *job* is tried again after *error*, or never. A strategy that raises decides for never."""
        if isinstance(error, JobAborted):
            return ABORTED
        assert job is not None
        try:
            retry = self._task.get_retry_exception(exception=error, job=job_of(job, self._loads(job.args)))
            if retry is not None:
                return _decision(retry.retry_decision)
        except Exception as wrong:
            log.error("the retry strategy of %s failed, so job %s is dead: %s", job.task, job.id, wrong, exc_info=wrong)
            return NEVER
        return ABORTED if isinstance(error, asyncio.CancelledError) else NEVER


def _decision(wanted: RetryDecision) -> Decision:
    delay = timedelta(0)
    if wanted.retry_at is not None:
        delay = min(max(wanted.retry_at.astimezone(UTC) - datetime.now(UTC), delay), LONGEST)
    if wanted.queue is None and wanted.priority is None and wanted.lock is None:
        return Decision(delay)
    return Decision(delay, place(wanted.queue, wanted.priority, wanted.lock))


def place(queue: str | None, priority: int | None, lock: str | None) -> Place:
    """Where a retry wants its job. Raises InvalidJob for what no job can have."""
    Checked("x.x", queue=queue, priority=priority, key=lock)
    return Place(queue, priority, lock)


def job_of(job: Claimed, arguments: Any, worker_id: int | None = None) -> Job:
    """*job* as procrastinate's strategies, contexts and middlewares know it."""
    headers = json.loads(job.headers) if job.headers else {}
    return Job.from_row(
        {
            "id": job.id,
            "status": "doing",
            "queue_name": job.queue,
            "priority": job.priority,
            "lock": job.key,
            "queueing_lock": headers.get("queueing_lock"),
            "task_name": job.task,
            "args": arguments,
            "scheduled_at": job.run_at if job.run_at > job.created_at else None,
            "attempts": job.attempt - 1,
            "worker_id": worker_id,
        }
    )
