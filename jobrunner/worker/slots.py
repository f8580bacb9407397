"""Room for running jobs: long-lived coroutines that take claimed jobs from a buffer, one after another.

A coroutine a job would cost more than a short job itself. A slot is taken when its handler awaits, and free when there is
nothing to run. The buffer may hold more than the slots can take at once (prefetch): only jobs of tasks that are quick,
never keyed or once-crashed ones, and no more than a tenth of a second's work; while that is run, the next claim is under way.
What has not started after 2 s is handed back.

Jobs that have to run alone (a runner was lost under them) take a few slots at a time and wait for them beside the buffer, so that
they keep no room from the others. They wait as long, and are then put off: they would only be claimed again.

(long because: the buffer, those who wait to run alone and the slots share one count of room)
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from statistics import median

from jobrunner.policy.lifecycle import CancelRequested, Failed, FinishedInPlace, HandedBack, Outcome, TimedOut
from jobrunner.policy.models import Claimed
from jobrunner.policy.text import describe
from jobrunner.worker.context import Context, Lender
from jobrunner.worker.executor import Executor

BATCH = 400
"""The most jobs that one claim asks for: 1.2 times the rate of 200, and 800 is no better (2 cores, PostgreSQL 18)."""

_QUICK = 0.02  # seconds: the median run of a task that may be prefetched
_SAMPLES = 32
_AHEAD = 0.1  # seconds of work to claim ahead: more would keep it from an idle neighbour
_UNSTARTED = 2.0  # seconds that a claimed job may wait for a slot
_PUT_OFF = 1.0, 3.0  # seconds before one that has to run alone is claimed again
_DEAF = 1.0  # seconds for slots to close
_TURN = 0.002  # seconds that handlers which never await may keep the loop

Settle = Callable[[Claimed, Outcome], None]


class Running:
    """One run in a slot."""

    __slots__ = ("began", "ctx", "job", "outcome", "settled", "task")

    def __init__(self, job: Claimed, ctx: Context, task: asyncio.Task[None], began: float) -> None:
        self.job, self.ctx, self.task, self.began = job, ctx, task, began
        self.outcome: Outcome | None = None
        self.settled = False


class Slots:
    """The buffer and the slots of one runner."""

    def __init__(self, size: int, executor: Executor, lender: Lender, settle: Settle, alone: int = 1) -> None:
        self.size = size
        self._most_alone = alone
        self.room = asyncio.Event()
        """Set whenever a claim could bring something: a slot became free, or the buffer ran low."""
        self.running: dict[int, Running] = {}
        self._executor, self._lender, self._settle = executor, lender, settle
        self._buffer: deque[tuple[Claimed, float, bool]] = deque()  # when it came; whether it cannot wait
        self._impatient = 0
        self._suspects, self._alone = deque[tuple[Claimed, float]](), 0
        self._taken = 0  # slots; a thread past its timeout keeps one beside a later attempt of its job
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self._slots: list[asyncio.Task[None]] = []
        self._runs: dict[str, list[float]] = {}
        self._quick: dict[str, float] = {}
        self._ahead = 0
        self._turn_began = 0.0
        self._closed = False
        self.room.set()

    def start(self) -> None:
        """Open the slots."""
        self._slots = [asyncio.create_task(self._slot(), name=f"jobrunner slot {n}") for n in range(self.size)]

    @property
    def in_hand(self) -> int:
        """Jobs claimed and not yet settled by their run."""
        return self._taken + len(self._buffer) + len(self._suspects)

    def jobs(self) -> Iterator[Claimed]:
        """Those jobs."""
        yield from (run.job for run in self.running.values())
        yield from self.buffered()

    def ran(self, job: Claimed) -> float | None:
        """For how many seconds *job* has run; None when it has not started."""
        run = self.running.get(job.id)
        return time.monotonic() - run.began if run is not None and run.job is job else None

    @property
    def unsettled(self) -> bool:
        """Whether a run has no outcome yet; a thread may go on after its own was settled."""
        return any(not run.settled for run in self.running.values())

    @property
    def quick_tasks(self) -> set[str]:
        """Tasks whose median run is under 20 ms."""
        return set(self._quick)

    def demand(self) -> int:
        """How many jobs of any kind could start at once."""
        return self.size - self._taken - len(self._buffer)

    @property
    def suspects_wait(self) -> bool:
        """Whether so many jobs wait that have to run alone that no more should be claimed."""
        return len(self._suspects) >= self.size

    def prefetch(self) -> int:
        """How many quick jobs to claim ahead. As many again may wait in the buffer: a claim takes as long as running its jobs."""
        return self._ahead if len(self._buffer) <= self._ahead else 0

    def room_for_any(self) -> int:
        """How many jobs of any kind could be taken beside the quick ones in the buffer, which clear soon."""
        return self.size - self._taken - self._impatient

    def put(self, jobs: Sequence[Claimed], *, plain: bool) -> None:
        """Take claimed jobs, in the order in which they should start; those that are not *plain* before what waits here."""
        now = time.monotonic()
        if plain:
            self._buffer.extend((job, now, False) for job in jobs)
        else:
            alone = [job for job in jobs if self._executor.isolates(job)]
            self._suspects.extend((job, now) for job in alone)
            rest = [job for job in jobs if not self._executor.isolates(job)] if alone else jobs
            self._buffer.extendleft((job, now, True) for job in reversed(rest))
            self._impatient += len(rest)
        for _ in range(min(len(self._sleepers), len(self._buffer) + len(self._suspects))):
            sleeper = self._sleepers.popleft()
            if not sleeper.done():
                sleeper.set_result(None)

    def hand_back(self, reason: str, older_than: float = _UNSTARTED) -> int:
        """Settle what has waited for *older_than* seconds as handed back; returns how many."""
        limit = time.monotonic() - older_than
        old = [job for job, came, _ in self._buffer if came <= limit]
        suspects = [job for job, came in self._suspects if came <= limit]
        self.drop({job.id for job in (*old, *suspects)})
        for job in old:
            self._settle(job, HandedBack(reason))
        for job in suspects:
            self._settle(job, HandedBack(reason, timedelta(seconds=random.uniform(*_PUT_OFF))))
        return len(old) + len(suspects)

    def drop(self, ids: set[int]) -> None:
        """Forget jobs of the buffer."""
        if ids:
            self._buffer = deque(item for item in self._buffer if item[0].id not in ids)
            self._impatient = sum(impatient for _, _, impatient in self._buffer)
            self._suspects = deque(item for item in self._suspects if item[0].id not in ids)

    def buffered(self) -> list[Claimed]:
        """Jobs claimed and not started."""
        return [job for job, _, _ in self._buffer] + [job for job, _ in self._suspects]

    def interrupt(self, job_id: int, outcome: CancelRequested | HandedBack) -> bool:
        """Stop a run: its handler gets CancelledError (or ctx.cancelled) and the job *outcome*. False when it does not run, or
        was stopped before: one that is clearing up is not disturbed again."""
        run = self.running.get(job_id)
        if run is None or run.settled or run.outcome is not None:
            return False
        run.outcome = outcome
        run.ctx.stopped = outcome
        run.ctx.cancelled = True
        run.task.cancel()
        return True

    async def close(self) -> None:
        """Close the slots. A handler that is deaf to cancellation keeps its own until the process ends."""
        self._closed = True
        for slot in self._slots:
            slot.cancel()
        if self._slots:
            await asyncio.wait(self._slots, timeout=_DEAF)

    async def _slot(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        while not self._closed:  # a run that was stopped has taken the cancellation for itself
            while not self._buffer and not self._may_be_alone:
                self.room.set()
                sleeper = asyncio.get_running_loop().create_future()
                self._sleepers.append(sleeper)
                await sleeper
                self._turn_began = time.monotonic()
            began = time.monotonic()
            if began - self._turn_began > _TURN:
                # Handlers that never await would otherwise run the whole buffer before a settlement gets its turn.
                await asyncio.sleep(0)
                self._turn_began = time.monotonic()
                continue
            if self._may_be_alone:
                job, _ = self._suspects.popleft()
                self._alone += 1
                try:
                    await self._run(job, me, began)
                finally:
                    self._alone -= 1
                continue
            job, _, impatient = self._buffer.popleft()
            self._impatient -= impatient
            await self._run(job, me, began)

    @property
    def _may_be_alone(self) -> bool:
        return bool(self._suspects) and self._alone < self._most_alone

    async def _run(self, job: Claimed, me: asyncio.Task[None], began: float) -> None:
        ctx = Context(job, self._lender)
        run = self.running[job.id] = Running(job, ctx, me, began)
        self._taken += 1
        try:
            await self._executor.run(job, ctx, partial(self._settled, run))
        except asyncio.CancelledError:
            if run.outcome is None:
                raise
        except Exception as error:  # a validator of the arguments that raises what it likes
            self._settled(run, Failed(describe(error)))
        finally:
            self._taken -= 1
            if self.running.get(job.id) is run:  # not when a later attempt came here while this one was clearing up
                del self.running[job.id]
            while me.cancelling():
                me.uncancel()
        self._learn(job.task, time.monotonic() - began)
        if len(self._buffer) <= self._ahead:
            self.room.set()

    def _settled(self, run: Running, outcome: Outcome | None) -> None:
        """*outcome* None: the handler was cancelled. What it raised on its way out then is no failure of its own."""
        if outcome is None or (run.outcome is not None and isinstance(outcome, Failed | TimedOut)):
            outcome = FinishedInPlace() if run.ctx.finished else run.outcome
        if outcome is not None and not run.settled:
            run.settled = True
            self._settle(run.job, outcome)

    def _learn(self, task: str, seconds: float) -> None:
        runs = self._runs.get(task)
        if runs is None:
            runs = self._runs[task] = []
        runs.append(seconds)
        if len(runs) == _SAMPLES:
            if (usual := median(runs)) < _QUICK:
                self._quick[task] = usual
            else:
                self._quick.pop(task, None)
            runs.clear()
            slowest = max(self._quick.values(), default=math.inf)
            self._ahead = int(min(BATCH, self.size * _AHEAD / max(slowest, 1e-6)))
