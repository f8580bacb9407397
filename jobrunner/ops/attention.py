"""What a person should look at: takes what was read, returns the findings, the worst first. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

from jobrunner.policy.durations import brief
from jobrunner.store.event_rows import OutboxRow, SagasInNeed, SubscriptionRow
from jobrunner.store.rows import QueueRow, Recent, RunnerRow, UnknownTaskRow

LAGGING = timedelta(minutes=1)
"""A queue whose oldest ready job has been due for longer lags; so does a subscription whose oldest event has waited for longer."""

STALLED = timedelta(seconds=30)
"""An event that has been in the outbox for longer is moved by nobody."""

LONG_TRANSACTION = timedelta(minutes=15)
"""A transaction that is open for longer keeps dead rows in every table."""


SEVERITIES = ("error", "warning", "notice")
"""The worst first."""

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


@dataclass(frozen=True, slots=True)
class Events:
    """What there is to look at of events."""

    outbox: OutboxRow
    """What waits to be moved into the log."""
    subscriptions: Sequence[SubscriptionRow]
    """All of them."""
    sagas: Sequence[SagasInNeed]
    """Those that need a person."""


Condition: TypeAlias = Literal["ok", "catching_up", "lagging", "blocked", "paused"]
CONDITIONS: tuple[Condition, ...] = ("ok", "catching_up", "lagging", "blocked", "paused")
"""What one word says of a subscription; the later ones stand over those before."""


def condition(row: SubscriptionRow) -> Condition:
    """The one word. Lagging: something that nothing holds up has waited for long; what is retried or blocked is no lag."""
    moves = row.ready > 0 or (row.lag_events > 0 and (row.mode == "stream" or row.state == "catching_up"))
    if row.paused_at is not None:
        return "paused"
    if row.blocked_keys:
        return "blocked"
    if moves and row.lag is not None and row.lag > LAGGING and row.state != "catching_up":
        return "lagging"
    return "catching_up" if row.state == "catching_up" else "ok"


def findings(
    queues: Sequence[QueueRow],
    runners: Sequence[RunnerRow],
    recent: Recent,
    unknown: Sequence[UnknownTaskRow],
    events: Events | None = None,
) -> list[Attention]:
    """Everything that deserves a look, errors first; empty when all is well."""
    found = [
        *_of_runners(queues, runners),
        *_of_queues(queues, runners, unknown),
        *_of_tasks(unknown),
        *_of_the_rest(recent),
        *(_of_events(events, runners) if events is not None else ()),
    ]
    return sorted(found, key=lambda one: SEVERITIES.index(one.severity))


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
        elif (found := deaf(runner)) is not None:
            yield found


def deaf(runner: RunnerRow) -> Attention | None:
    """That a live runner hears nothing, with the likely reason, what it costs, and what to do; None when it hears, or is gone."""
    if runner.state != "alive" or runner.listening:
        return None
    often = "only polls" if runner.poll is None else f"looks every {runner.poll.total_seconds():g} s"
    where = f"{runner.host}:{runner.pid}"
    message = f"runner {where} hears no notifications (a pooler in transaction mode?) and {often}"
    return Attention("listener_down", "notice", where, message, "set JOBRUNNER_LISTEN_DSN to a direct address")


def _of_queues(
    queues: Sequence[QueueRow], runners: Sequence[RunnerRow], unknown: Sequence[UnknownTaskRow]
) -> Iterator[Attention]:
    some_alive = any(runner.state == "alive" for runner in runners)
    for queue in queues:
        waits = queue.ready + queue.scheduled + queue.retrying + queue.blocked
        if queue.paused_at is not None:
            if waits:
                message = f"queue {queue.name} is paused by {queue.paused_by}, {_jobs(waits)}"
                yield Attention(
                    "queue_paused", "notice", queue.name, message, f"jobrunner queues resume {shlex.quote(queue.name)}"
                )
        elif waits and some_alive and not queue.runners:
            message = f"{_jobs(waits)} in queue {queue.name}, which no live runner reads"
            yield Attention(
                "queue_unread", "error", queue.name, message, f"jobrunner run APP --queue {shlex.quote(queue.name)}"
            )
        elif queue.runners and queue.oldest_ready is not None and queue.oldest_ready > LAGGING:
            age = brief(timedelta(seconds=int(queue.oldest_ready.total_seconds())))
            message = f"queue {queue.name} lags: its oldest ready job has been due for {age}"
            hint = f"jobrunner jobs list --state ready --queue {shlex.quote(queue.name)}"
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


def _of_events(events: Events, runners: Sequence[RunnerRow]) -> Iterator[Attention]:
    age = events.outbox.oldest_age
    if age is not None and age > STALLED:
        message = (
            f"{_events(events.outbox.pending)} in the outbox, the oldest for {_rough(age)}, and no runner moves them"
        )
        some_alive = any(runner.state == "alive" for runner in runners)
        yield Attention(
            "outbox_stalled", "error", "", message, "jobrunner sql outbox" if some_alive else "jobrunner run APP"
        )
    for row in events.subscriptions:
        yield from _of_subscription(row)
    for need in events.sagas:
        many = f"{need.sagas:,} saga{'s' * (need.sagas != 1)} of {need.name}"
        what, severity = _SAGAS[need.status]
        hint = f"jobrunner sagas list --status {need.status}"
        yield Attention("saga_attention", severity, need.name, f"{many} {what}", hint)


_SAGAS: dict[str, tuple[str, Literal["error", "warning"]]] = {
    "stuck": ("cannot go on: a timeout is overdue, or a delivery or timeout is dead", "warning"),
    "needs_attention": ("cannot be undone: a compensation is dead", "error"),
}


def _of_subscription(row: SubscriptionRow) -> Iterator[Attention]:
    name, waits = row.name, _events(row.lag_events)
    match condition(row):
        case "paused":
            because = f": {row.pause_reason}" if row.pause_reason else ""
            by_itself = row.paused_by == "on_dead"
            message = (
                f"subscription {name} is paused {'by itself' if by_itself else f'by {row.paused_by}'}, {waits}{because}"
            )
            hint = (
                f"jobrunner subs show {shlex.quote(name)}"
                if by_itself
                else f"jobrunner subs resume {shlex.quote(name)}"
            )
            yield Attention("subscription_paused", "error" if by_itself else "notice", name, message, hint)
        case "blocked":
            keys = f"{row.blocked_keys:,} key{'s' * (row.blocked_keys != 1)}"
            message = f"{keys} of subscription {name} cannot go on behind a dead delivery"
            yield Attention(
                "subscription_blocked", "warning", name, message, f"jobrunner subs show {shlex.quote(name)}"
            )
        case "lagging" if row.lag is not None:
            message = f"subscription {name} lags: {waits}, the oldest for {_rough(row.lag)}"
            yield Attention(
                "subscription_lagging", "warning", name, message, f"jobrunner subs show {shlex.quote(name)}"
            )


def _rough(age: timedelta) -> str:
    return brief(timedelta(seconds=int(age.total_seconds())))


def _events(count: int) -> str:
    return f"{count:,} event{'s wait' if count != 1 else ' waits'}"


def _jobs(count: int) -> str:
    return f"{count:,} job{'s wait' if count != 1 else ' waits'}"
