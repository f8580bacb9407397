"""Drain: a runner, a sequencer and a clock in one generator, which hands each run to a driver of either colour."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from typing import Any, TypeAlias, overload

from psycopg import AsyncConnection, Connection
from psycopg.pq import TransactionStatus

from jobrunner.errors import ConfigError, OutOfBounds
from jobrunner.policy.durations import duration
from jobrunner.policy.lifecycle import Settlement, decide
from jobrunner.policy.models import Claimed
from jobrunner.policy.outcomes import FinishedInPlace
from jobrunner.testing import statements
from jobrunner.testing.connections import Either, Sync, transaction_of
from jobrunner.testing.inhouse import BEGIN, KEEP, UNDO, Due, Ended, Host, Inhouse, Rehearsal
from jobrunner.testing.results import Drained, Run, word
from jobrunner.worker.app import App
from jobrunner.worker.task import Runnable

Until: TypeAlias = str | float | timedelta | datetime | None
Steps: TypeAlias = Generator[Due, Ended, Drained]

_NO_JITTER = 1.0  # all of the wait: a test that lets it pass can be sure of the retry


@overload
def drain(
    conn: Connection[Any],
    /,
    *apps: App,
    until: Until = None,
    raises: bool = True,
    limit: int = 1000,
) -> Drained: ...


@overload
def drain(
    conn: AsyncConnection[Any],
    /,
    *apps: App,
    until: Until = None,
    raises: bool = True,
    limit: int = 1000,
) -> Awaitable[Drained]: ...


def drain(
    conn: Connection[Any] | AsyncConnection[Any],
    /,
    *apps: App,
    until: Until = None,
    raises: bool = True,
    limit: int = 1000,
) -> Drained | Awaitable[Drained]:
    """Run what is due of *apps*, and all that follows from it, in the transaction of *conn*; an awaitable on an async one.

    Events go into the log and to the subscriptions, keyed jobs run in their order, one job at a time, each by the handler and
    the statements of production; it ends when nothing is left to run now. Nothing is committed. What other transactions commit
    meanwhile is seen, and jobs that they hold are passed over.

    *until*: let time pass up to then, a duration from now on or an instant, and run what becomes due on the way, in the order of
    time: delayed jobs, retries, what those enqueue for later. Only what is due moves: the clocks of Python and of the database
    stand where they are, and each drain begins at the present. A retry waits as long as its backoff has it wait at the most.

    *raises*: the first exception of a handler is raised here, once its job has been settled as failed. Else it is a failure as in
    production, and in `Drained.runs`; what is no Exception (KeyboardInterrupt, pytest.fail) is raised in any case.

    Subscriptions get what was published in this transaction, also before the first drain; with start="beginning" the log too.

    Raises:
        ConfigError: the connection is in autocommit and in no transaction; a subscription has another declaration in the database.
        AssertionError: more than *limit* runs.
    """
    if not apps:
        raise ConfigError("drain", "needs an app, whose handlers it runs: drain(conn, app)")
    steps = _steps(conn, apps, until=until, raises=raises, limit=limit)
    return _drain_async(steps) if isinstance(conn, AsyncConnection) else _drain(steps)


def _drain(steps: Steps) -> Drained:
    with closing(steps):
        try:
            due = next(steps)
            while True:
                due = steps.send(due.run_here())
        except StopIteration as done:
            drained: Drained = done.value
            return drained


async def _drain_async(steps: Steps) -> Drained:
    with closing(steps):
        try:
            due = next(steps)
            while True:
                due = steps.send(await due.run_async())
        except StopIteration as done:
            drained: Drained = done.value
            return drained


def _steps(conn: Either, apps: Sequence[App], *, until: Until, raises: bool, limit: int) -> Steps:
    """The whole drain but the handlers: yields each run, takes how it ended."""
    tx = transaction_of(conn)
    host = Host(conn, statements.register(tx, ", ".join(app.name for app in apps)))
    tasks = _known(tx, apps)
    idle, ahead, reach = statements.idle_limit(tx), timedelta(0), _reach(until)
    runs: list[Run] = []

    with closing(Inhouse(tasks)) as executor, ExitStack() as guests:
        for guest in dict.fromkeys(guest for app in apps for guest in app.guests):
            guests.enter_context(guest.rehearse(host.lend_for_a_statement))
        while True:
            statements.sequence(tx)
            seen = statements.look(tx, ahead, tasks)
            if (job := statements.claim(tx, host.runner_id, seen, tasks)) is None:
                # What is due already and has not become ready, others hold.
                if seen.due_in is None or not ahead < seen.due_in <= reach(seen.at):
                    return Drained.of(runs)
                ahead = seen.due_in
                continue
            if len(runs) >= limit:
                raise AssertionError(_endless(runs))

            tx.execute(BEGIN)
            ended = yield Due(executor, job, Rehearsal(job, host))
            if ended.error is not None or tx.info.transaction_status is TransactionStatus.INERROR:
                tx.execute(UNDO)
            tx.execute(KEEP)
            statements.restore(tx, idle)
            statements.put_off(tx, seen.last_id, ahead)
            statements.write_progress(tx, host.said())
            settlement = decide(job, ended.outcome, tasks[job.task].retry, _NO_JITTER)
            in_place = isinstance(ended.outcome, FinishedInPlace)
            statements.settle(tx, host.runner_id, job, None if in_place else settlement, ahead)
            if job.batch is None or job.batch.events:  # a stream that had nothing to read did not run
                runs.append(_told(tasks[job.task].name, job, settlement, ended))
            if ended.error is not None and (raises or not isinstance(ended.error, Exception)):
                raise ended.error


def _known(tx: Sync, apps: Sequence[App]) -> dict[str, Runnable]:
    """What can be run, by the names that it has here; subscriptions are made known."""
    tasks: dict[str, Runnable] = {}
    for app in apps:
        tasks |= app.tasks
        tasks |= {statements.subscribe(tx, one): one for one in app.subscriptions}
    return tasks


def _reach(until: Until) -> Callable[[datetime], timedelta]:
    """How far time may pass, from the present: that goes on while handlers run, and what they put off must not come too late."""
    if isinstance(until, datetime):
        if until.utcoffset() is None:
            raise OutOfBounds("until", until, "a duration, or a datetime with a time zone")
        return lambda now: until - now
    length = duration(until or 0, what="until")
    return lambda now: length


def _told(task: str, job: Claimed, settlement: Settlement, ended: Ended) -> Run:
    return Run(
        task=task,
        job_id=job.id,
        attempt=job.attempt,
        args=json.loads(job.args),
        ended=word(settlement),
        error=ended.error,
        reason=settlement.reason,
        result=settlement.result,
    )


def _endless(runs: list[Run]) -> str:
    last = ", ".join(dict.fromkeys(run.task for run in reversed(runs[-20:])))
    return (
        f"the drain did not come to an end within {len(runs):,} runs, the last of {last}: is there one that always makes another? "
        "Let time pass up to an earlier instant, or raise limit= if there are really so many"
    )
