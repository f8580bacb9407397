"""Writes what became of runs: buffers settlements, flushes on size or time, and repeats until each one has an answer.

A settlement is idempotent (fenced by job, attempt and runner), so one whose answer was lost is simply sent again, and its
verdict asked for: settled before, busy (someone holds the row), or stale (another attempt has the job).

(long because: every way in which a settlement can fail has its answer here)
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg

from jobrunner.policy.lifecycle import Settlement, State
from jobrunner.policy.models import Claimed
from jobrunner.policy.sqlstate import Trouble
from jobrunner.store import jobs
from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.gate import Gate
from jobrunner.worker.identity import Identity
from jobrunner.worker.link import Link, Lost, trouble
from jobrunner.worker.vitals import Pulse

BATCH = 200
"""Settlements in one statement."""

FULL = 2000
"""From here on a runner claims no more."""

_LINGER = 0.002
_BUSY_WAIT = 0.1
_DEPARTURES = 20  # tries to move a job out of the way before the sweep does


@dataclass(slots=True)
class Pending:
    """Settlements that wait, by the statement that they need."""

    done: deque[tuple[Claimed, str | None]] = field(default_factory=deque)
    """Successes without a key, each with its result as JSON text."""
    other: deque[tuple[Claimed, Settlement]] = field(default_factory=deque)
    moving: deque[tuple[Claimed, Settlement]] = field(default_factory=deque)
    """Tried again in another queue, or by another priority or key."""
    in_place: deque[Claimed] = field(default_factory=deque)
    """Ended by the handler's own transaction: to be moved out of the way."""

    def __len__(self) -> int:
        return len(self.done) + len(self.other) + len(self.moving) + len(self.in_place)

    def jobs(self) -> Iterable[Claimed]:
        """All of them."""
        yield from (job for job, _ in self.done)
        yield from (job for job, _ in self.other)
        yield from (job for job, _ in self.moving)
        yield from self.in_place


class Intake(Protocol):
    """Whom settlements give something to do."""

    def wake(self) -> None:
        """Look around soon."""

    def again(self) -> None:
        """Claim soon."""


class Settler:
    """The buffer and the one task that empties it."""

    def __init__(self, link: Link, identity: Identity, telemetry: Telemetry, intake: Intake, gate: Gate) -> None:
        self.pending, self.pulse = Pending(), Pulse("settle")
        self._link, self._identity, self._intake, self._gate = link, identity, intake, gate
        self._telemetry = telemetry
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._departures: dict[int, int] = {}

    def put(self, job: Claimed, settlement: Settlement | None) -> None:
        """Take one settlement; None: the job was finished in place."""
        pending = self.pending
        if settlement is None:
            pending.in_place.append(job)
        elif settlement.state is State.SUCCEEDED and not settlement.keyed:
            result = settlement.result
            pending.done.append(
                (job, None if result is None else json.dumps(result, ensure_ascii=False, allow_nan=False))
            )
        else:
            (pending.other if settlement.place is None else pending.moving).append((job, settlement))
            if settlement.keyed:
                self._work.set()  # the next of its key waits for this
        self._note(len(pending))

    def succeed(self, job: Claimed) -> None:
        """Take the settlement of nearly every run: a success without key and result."""
        done = self.pending.done
        done.append((job, None))
        self._note(len(done))

    def _note(self, size: int) -> None:
        self._idle.clear()
        if size >= BATCH:
            self._work.set()
            if size >= FULL:
                self._gate.hold("full")
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LINGER, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._work.set()

    async def drained(self) -> None:
        """Return when everything that was put has its answer."""
        self._work.set()
        await self._idle.wait()

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            if not self.pending:
                self._idle.set()
            await self.pulse.wait(self._work)
            self._work.clear()
            while self.pending:
                self.pulse.beat()
                self._idle.clear()
                try:
                    async with self._identity.settling:
                        answered = await self._flush()
                    if not answered:  # all that is left is held by someone
                        await asyncio.sleep(random.uniform(0, _BUSY_WAIT))
                except Lost as error:
                    log.info("settle: connection lost, sending again: %s", error)
                except psycopg.Error as error:  # of a verdict or a departure: the whole flush can be sent again
                    self._telemetry.emit("loop.failed", loop="settle", error=error)
                    log.warning("settle failed, sending again: %s", str(error).partition("\n")[0])
                    await asyncio.sleep(random.uniform(0, _BUSY_WAIT))
                if len(self.pending) < FULL:
                    self._gate.release("full")

    async def _flush(self) -> bool:
        """Send a batch of each kind; whether any settlement got its answer."""
        pending, runner, any_answered = self.pending, self._identity.runner_id, False
        if pending.done:
            sent = _first(pending.done)
            answered = await self._finish(runner, sent)
            any_answered |= bool(answered)
            # The rest someone holds: settle passes over such rows, finish would wait for them again.
            busy = _take_out(pending.done, sent, answered)
            pending.other.extend((job, _success(job, result)) for job, result in busy)
        if pending.other:
            sent = _first(pending.other)
            answered = await self._settle(runner, sent)
            any_answered |= bool(answered)
            pending.other.extend(_take_out(pending.other, sent, answered))
        for _ in range(len(pending.moving)):
            any_answered |= await self._move(runner)
        if pending.in_place:
            any_answered |= await self._depart(runner)
        return any_answered

    async def _move(self, runner: int) -> bool:
        """Put the first of those back that wait in another place from now on; whether it got its answer. They are rare."""
        job, settlement = self.pending.moving[0]
        assert settlement.place is not None
        assert settlement.delay is not None
        at = datetime.now(UTC) + settlement.delay
        try:
            verdict = await self._link.run(jobs.put_elsewhere, runner, as_row(settlement), at, settlement.place)
            answered = verdict == "settled" or bool(await self._judge(runner, [(job, settlement)], set()))
        except psycopg.Error as error:
            answered = False
            if trouble(error) is Trouble.REFUSED:
                log.error("job %s stays where it is, it cannot be put elsewhere: %s", job.id, error)
                settlement = replace(settlement, place=None)
        self.pending.moving.popleft()
        if answered:
            self._telemetry.emit("jobs.settled", 1)
            self._intake.wake()
        else:
            (self.pending.other if settlement.place is None else self.pending.moving).append((job, settlement))
        return answered

    async def _depart(self, runner: int) -> bool:
        """Move what was finished in place out of the way; whether any of it went.

        A row that a seat step holds at this moment is passed over, and so is one whose next in line somebody holds: again, soon. At
        last it is left to the sweep, which comes every 5 s: too long for the next of its key to wait for a matter of microseconds.
        """
        sent = [self.pending.in_place[n] for n in range(min(BATCH, len(self.pending.in_place)))]
        ids = [job.id for job in sent]
        went = await self._link.run(jobs.depart, runner, ids)
        left = set[int]() if went == len(ids) else await self._link.run(jobs.undeparted, ids)
        for job in sent:
            self.pending.in_place.popleft()
            tries = self._departures.pop(job.id, 0)
            if job.id in left and tries < _DEPARTURES:
                self._departures[job.id] = tries + 1
                self.pending.in_place.append(job)
        ended = [job for job in sent if job.id not in left]
        if ended:
            self._telemetry.emit("jobs.succeeded", len(ended))
        if any(job.key is not None for job in ended):
            self._intake.again()
        return bool(ended)

    async def _finish(self, runner: int, batch: list[tuple[Claimed, str | None]]) -> set[int]:
        ids = [job.id for job, _ in batch]
        attempts = [job.attempt for job, _ in batch]
        results = [result for _, result in batch]
        try:
            settled = await self._link.run(jobs.finish, runner, ids, attempts, results if any(results) else None)
        except psycopg.Error as error:
            if trouble(error) is not Trouble.REFUSED:
                return await self._settle(runner, [(job, _success(job, result)) for job, result in batch])
            if len(batch) == 1:
                return await self._unwritable(runner, batch[0][0], _success(*batch[0]), error)
            return await self._halves(self._finish, runner, batch)
        self._telemetry.emit("jobs.succeeded", len(settled))
        return settled if len(settled) == len(ids) else await self._judge(runner, batch, settled)

    async def _settle(self, runner: int, rows: list[tuple[Claimed, Settlement]]) -> set[int]:
        try:
            settled = await self._link.run(jobs.settle, runner, [as_row(settlement) for _, settlement in rows])
        except psycopg.Error as error:
            if len(rows) == 1:
                return await self._unwritable(runner, *rows[0], error)
            return await self._halves(self._settle, runner, rows)
        handed_back = sum(row.outcome == "handed_back" for _, row in rows if row.job_id in settled)
        self._telemetry.emit("jobs.settled", len(settled), handed_back=handed_back)
        if any(settlement.delay is not None for _, settlement in rows):
            self._intake.wake()  # it may be due before the next poll
        elif any(settlement.keyed or settlement.state is State.READY for _, settlement in rows):
            self._intake.again()
        return settled if len(settled) == len(rows) else await self._judge(runner, rows, settled)

    async def _halves(self, send: Callable[[int, Any], Any], runner: int, batch: list[Any]) -> set[int]:
        """One row can spoil a batch (what it says cannot be stored): send the halves, until it stands alone."""
        middle = len(batch) // 2
        first: set[int] = await send(runner, batch[:middle])
        second: set[int] = await send(runner, batch[middle:])
        return first | second

    async def _unwritable(self, runner: int, job: Claimed, settlement: Settlement, error: psycopg.Error) -> set[int]:
        """One settlement that fails alone: later when someone holds the row, else with the least that can be written."""
        if trouble(error) is not Trouble.REFUSED:
            return set()
        log.error("the settlement of job %s cannot be stored, its state alone is: %s", job.id, error)
        row = as_row(
            Settlement(
                job.id,
                job.attempt,
                settlement.state,
                delay=settlement.delay,
                failed=settlement.failed,
                crashed=settlement.crashed,
                reason="unserialisable",
            )
        )
        try:
            settled = await self._link.run(jobs.settle, runner, [row])
        except psycopg.Error:  # a trigger or constraint of the user's own; it must not hold up the others
            return set()
        return settled or await self._judge(runner, [(job, settlement)], settled)

    async def _judge(self, runner: int, batch: list[tuple[Claimed, Any]], settled: set[int]) -> set[int]:
        """The answered ones of a batch of which not all were settled now."""
        rest = [job for job, _ in batch if job.id not in settled]
        verdicts = await self._link.run(jobs.verdict, runner, [job.id for job in rest], [job.attempt for job in rest])
        stale = [id_ for id_, verdict in verdicts.items() if verdict == "stale"]
        if stale:
            self._telemetry.emit("jobs.stale", len(stale), ids=stale)
            log.warning(
                "%s settlements were refused: other attempts have the jobs", len(stale), extra={"job_ids": stale}
            )
        return {job.id for job, _ in batch} - {id_ for id_, verdict in verdicts.items() if verdict == "busy"}


def _first(queue: deque[tuple[Claimed, Any]]) -> list[tuple[Claimed, Any]]:
    """The first settlements of *queue*, one of a job at the most, by ascending id: they can be told apart by it."""
    first: dict[int, tuple[Claimed, Any]] = {}
    for n in range(min(BATCH, len(queue))):
        first.setdefault(queue[n][0].id, queue[n])
    return [first[job_id] for job_id in sorted(first)]


def _take_out(
    queue: deque[tuple[Claimed, Any]], sent: list[tuple[Claimed, Any]], answered: set[int]
) -> list[tuple[Claimed, Any]]:
    """Take what was *sent* off *queue* and return what of it has no answer: someone holds it.

    By identity and not by the job's id: while the answer was on its way the next attempt of the same job may have been claimed,
    run and put here. Its settlement was not sent; dropped with the other, it left the job running for ever.
    """
    mine, rest = {id(item) for item in sent}, list[tuple[Claimed, Any]]()
    for _ in sent:
        while id(item := queue.popleft()) not in mine:
            rest.append(item)
    queue.extendleft(reversed(rest))
    return [item for item in sent if item[0].id not in answered]


def _success(job: Claimed, result: str | None) -> Settlement:
    return Settlement(job.id, job.attempt, State.SUCCEEDED, result=None if result is None else json.loads(result))


def as_row(settlement: Settlement) -> dict[str, Any]:
    """*settlement* as settle_v1 takes it."""
    error = settlement.error
    row: dict[str, Any] = {
        "id": settlement.job_id,
        "attempt": settlement.attempt,
        "state": settlement.state,
        "failed": settlement.failed,
        "reason": settlement.reason,
        "outcome": settlement.outcome,
    }
    if settlement.crashed:
        row["crashed"] = True
    if settlement.delay is not None:
        row["delay"] = settlement.delay.total_seconds()
    if settlement.result is not None:
        row["result"] = settlement.result  # the executor has seen that it can be stored
    if error is not None:
        first_line = error.message.partition("\n")[0][:1000]
        row |= {
            "error": f"{error.type}: {first_line}",
            "error_type": error.type,
            "message": error.message,
            "traceback": error.traceback,
        }
    return row
