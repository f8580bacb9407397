"""Workers of procrastinate as runners: they register, fetch one job at a time, beat, and say good-bye.

procrastinate tells a connector nothing about the worker or the app that asks. Which tasks a worker has is read from the worker
that stands above the call of register_worker; who registers by hand takes every task of what is ready.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterable

import psycopg
from procrastinate.worker import Worker

from jobrunner.policy.sqlstate import LOST_RUNNER
from jobrunner.procrastinate.claims import Claims, forget
from jobrunner.procrastinate.ears import Sleeper
from jobrunner.procrastinate.ending import say_again
from jobrunner.procrastinate.housekeeping import unpark
from jobrunner.procrastinate.runner import WorkerRunner
from jobrunner.procrastinate.talks import Row, Say, Talk
from jobrunner.store.queries import query
from jobrunner.store.runners import REGISTER

_FETCH = query("procrastinate_fetch")
_READY_TASKS = query("procrastinate_ready_tasks")
_BEAT = query("beat")
_ADOPT = query("adopt")
_STOP = query("stop")
_PRUNE = query("procrastinate_prune")

_CROWDED = 0.1  # seconds of a fetch that say: it walked over jobs that nobody here can run
_SEATING = 0.002  # seconds to wait for another session that gives arrivals their places, or for a new id
_PATIENCE = 500  # such waits in one fetch


class Workers:
    """All the workers of one connector, by the id that procrastinate knows them by."""

    def __init__(self, claims: Claims, stir: Callable[[], None], listening: Callable[[], bool]) -> None:
        self._claims, self._stir, self._listening = claims, stir, listening
        self._runners: dict[int, WorkerRunner] = {}

    def sleepers(self) -> Iterable[Sleeper]:
        """Those who may rest."""
        return [runner.sleeper for runner in self._runners.values()]

    def register_worker(self) -> Talk:
        """[{worker_id}]."""
        runner = WorkerRunner(secrets.randbits(62), _worker_above(), self._stir)
        yield Say(REGISTER, runner.registration(runner.runner))
        self._runners[runner.runner] = runner
        yield from unpark(runner.tasks)
        return [{"worker_id": runner.runner}]

    def unregister_worker(self, *, worker_id: int) -> Talk:
        """Whatever it still held goes back at once."""
        runner = self._of(worker_id)
        yield from say_again(self._claims, runner.runner)
        for claim in self._claims.of_runner(runner.runner):
            self._claims.lost(claim)
        self._runners.pop(worker_id, None)
        yield Say(_STOP, {"runner": runner.runner})
        return []

    def fetch_job(self, *, queues: Iterable[str] | None, worker_id: int) -> Talk:
        """One job, now running on this worker, or [{id: None}]."""
        forget()
        runner, some = self._of(worker_id), None if queues is None else list(queues)
        runner.sleeper.looks()
        for _ in range(_PATIENCE):
            tasks = runner.tasks
            if tasks is None:
                tasks = (yield Say(_READY_TASKS, {}))[0]["tasks"]
            params = runner.look(some, tasks)
            began = time.monotonic()
            try:
                (row,) = yield Say(_FETCH, params)
            except psycopg.Error as error:
                if error.sqlstate != LOST_RUNNER:
                    raise
                yield from self._renew(runner, params["runner"])
                continue
            more = runner.saw(params, row)
            if time.monotonic() - began > _CROWDED:
                runner.crowded.update(params["queues"])
            if row["id"] is not None:
                self._claims.took(row, params["runner"])
                return [_job(row, worker_id)]
            if not more:
                break
            if row["seen"] == -1:
                yield _SEATING
        return [{"id": None}]

    def update_heartbeat(self, *, worker_id: int) -> Talk:
        """One beat; a worker that was declared lost goes on under a new id."""
        runner = self._of(worker_id)
        beating = runner.runner
        busy = len(self._claims.of_runner(beating))
        (row,) = yield Say(_BEAT, {"runner": beating, "busy": busy, "listening": self._listening()})
        if not row["alive"] and worker_id in self._runners:
            yield from self._renew(runner, beating)
        yield from say_again(self._claims, runner.runner)
        crowded, runner.crowded = runner.crowded, set()
        return (yield from runner.housekeeping.round(runner.tasks, sorted(crowded)))

    def prune_stalled_workers(self, *, seconds_since_heartbeat: float) -> Talk:
        """[{worker_id}] of those that are lost; unlike procrastinate's it gives their jobs back too.

        A worker that is about to start judges nobody: its rounds do, once its own heartbeat has been healthy for half a lease.
        """
        worker = _worker_above()
        if worker is not None and worker.worker_id is None:
            return []
        return (yield Say(_PRUNE, {"seconds": seconds_since_heartbeat}))

    def _renew(self, runner: WorkerRunner, lost: int) -> Talk:
        """Go on under a new id, with what is still in hand, fenced by the old one; once, though a fetch and a beat both hear it."""
        while runner.renewing:
            yield _SEATING
        if runner.runner != lost:
            return []
        new, runner.renewing = secrets.randbits(62), True
        held = self._claims.of_runner(lost)
        for claim in held:
            claim.moving = True
        try:
            yield Say(REGISTER, runner.registration(new))
            runner.runner = new
            params = {"ids": [claim.job_id for claim in held], "attempts": [claim.attempt for claim in held]}
            yield Say(_ADOPT, {"old": lost, "new": new, **params})
            # Of one that was given away the fence holds all the same: another attempt, another runner.
            for claim in held:
                claim.runner = new
        finally:
            runner.renewing = False
            for claim in held:
                claim.moving = False
        return []

    def _of(self, worker_id: int) -> WorkerRunner:
        if worker_id not in self._runners:
            self._runners[worker_id] = WorkerRunner(worker_id, None, self._stir)
        return self._runners[worker_id]


def _job(row: Row, worker_id: int) -> Row:
    return {
        "id": row["id"],
        "status": "doing",
        "task_name": row["task"],
        "priority": row["priority"],
        "lock": row["key"],
        "queueing_lock": row["queueing_lock"],
        "args": row["args"],
        "scheduled_at": row["scheduled_at"],
        "queue_name": row["queue"],
        "attempts": row["attempt"] - 1,
        "worker_id": worker_id,
    }


def _worker_above() -> Worker | None:
    frame = sys._getframe(1)
    for _ in range(40):
        found = frame.f_locals.get("self")
        if isinstance(found, Worker):
            return found
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None
