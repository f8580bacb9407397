"""What a person should look at: takes what was read, returns the findings, the worst first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from jobrunner.policy.durations import brief
from jobrunner.store.rows import QueueRow, Recent, RunnerRow, UnknownTaskRow

LAGGING = timedelta(minutes=1)
"""A queue whose oldest ready job has been due for longer lags."""

LONG_TRANSACTION = timedelta(minutes=15)
"""A transaction that is open for longer keeps dead rows in every table."""


_START = "start a runner with the code that has it"


@dataclass(frozen=True, slots=True)
class Attention:
    """One finding."""

    code: str
    """Stable, for programs: queue_unread, task_unknown, …"""
    severity: Literal["error", "warning", "notice"]
    subject: str
    """The queue, task or runner that it is about."""
    message: str
    """What is wrong."""
    hint: str
    """The command that shows more or mends it."""


def findings(
    queues: Sequence[QueueRow], runners: Sequence[RunnerRow], recent: Recent, unknown: Sequence[UnknownTaskRow]
) -> list[Attention]:
    """Everything that deserves a look, errors first; empty when all is well."""
    found = [
        *_of_runners(queues, runners),
        *_of_queues(queues, runners, unknown),
        *_of_tasks(unknown),
        *_of_the_rest(recent),
    ]
    return sorted(found, key=lambda one: ("error", "warning", "notice").index(one.severity))


def _of_runners(queues: Sequence[QueueRow], runners: Sequence[RunnerRow]) -> Iterator[Attention]:
    waiting = sum(queue.ready + queue.scheduled + queue.retrying + queue.blocked for queue in queues)
    if waiting and not any(runner.state == "alive" for runner in runners):
        yield Attention("no_runner", "error", "", f"{_jobs(waiting)} and no runner is alive", "jobrunner run APP")
    for runner in runners:
        if runner.state == "silent":
            age = brief(timedelta(seconds=int(runner.beat_age.total_seconds())))
            where = f"{runner.host}:{runner.pid}"
            yield Attention(
                "runner_silent", "warning", where, f"runner {where} has not beaten for {age}", "jobrunner runners"
            )
        elif runner.state == "alive" and not runner.listening:
            where = f"{runner.host}:{runner.pid}"
            message = f"runner {where} hears no notifications and only polls"
            yield Attention(
                "listener_down", "notice", where, message, "set JOBRUNNER_LISTEN_DSN when a pooler is in between"
            )


def _of_queues(
    queues: Sequence[QueueRow], runners: Sequence[RunnerRow], unknown: Sequence[UnknownTaskRow]
) -> Iterator[Attention]:
    some_alive = any(runner.state == "alive" for runner in runners)
    for queue in queues:
        waits = queue.ready + queue.scheduled + queue.retrying + queue.blocked
        if queue.paused_at is not None:
            if waits:
                message = f"queue {queue.name} is paused by {queue.paused_by}, {_jobs(waits)}"
                yield Attention("queue_paused", "notice", queue.name, message, f"jobrunner queues resume {queue.name}")
        elif waits and some_alive and not queue.runners:
            message = f"{_jobs(waits)} in queue {queue.name}, which no live runner reads"
            yield Attention("queue_unread", "error", queue.name, message, f"jobrunner run APP --queue {queue.name}")
        elif queue.runners and queue.oldest_ready is not None and queue.oldest_ready > LAGGING:
            age = brief(timedelta(seconds=int(queue.oldest_ready.total_seconds())))
            message = f"queue {queue.name} lags: its oldest ready job has been due for {age}"
            hint = f"jobrunner jobs list --state ready --queue {queue.name}"
            if strange := [one for one in unknown if one.queue == queue.name and one.ready]:
                message += f"; task {strange[0].task}: no live runner knows it"
                hint = _START
            yield Attention("queue_lagging", "warning", queue.name, message, hint)


def _of_tasks(unknown: Sequence[UnknownTaskRow]) -> Iterator[Attention]:
    for one in unknown:
        where = f"in queue {one.queue} for task {one.task} (version {one.version})"
        message = f"{_jobs(one.jobs)} {where}, which no live runner knows"
        yield Attention("task_unknown", "warning", one.task, message, _START)


def _of_the_rest(recent: Recent) -> Iterator[Attention]:
    if recent.died:
        message = f"{recent.died:,} job{'s' * (recent.died != 1)} died within the last hour"
        yield Attention("jobs_died", "warning", "", message, "jobrunner dead list --newer-than 1h")
    if recent.partitions_ahead < 2:
        days = f"{recent.partitions_ahead} day{'s' * (recent.partitions_ahead != 1)}"
        message = f"history has partitions for {days} ahead only"
        yield Attention("partitions_short", "warning", "finished_jobs", message, "jobrunner migrate, or start a runner")
    if recent.oldest_transaction is not None and recent.oldest_transaction > LONG_TRANSACTION:
        age = brief(timedelta(seconds=int(recent.oldest_transaction.total_seconds())))
        message = f"a transaction has been open for {age}: no table can be cleaned up behind it"
        yield Attention("old_transaction", "warning", "", message, "jobrunner sql blockers")


def _jobs(count: int) -> str:
    return f"{count:,} job{'s wait' if count != 1 else ' waits'}"
