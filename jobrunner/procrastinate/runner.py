"""One worker of procrastinate as a runner: what the database is told of it, and from where its next fetch may look."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from weakref import ref

from procrastinate.worker import Worker

from jobrunner.policy.floor import Class, Floors, Horizon, Mark, Snapshot
from jobrunner.policy.models import MAX_ATTEMPTS
from jobrunner.procrastinate.ears import ASLEEP, Sleeper
from jobrunner.procrastinate.housekeeping import Housekeeping
from jobrunner.procrastinate.talks import Row
from jobrunner.store.runners import Registration, register_params
from jobrunner.version import VERSION

_TTL = 30.0
_NET = 1.0  # seconds between two looks from the very beginning
_MANY_CLASSES = 1000
_RENEW = 20.0  # seconds before its end that a flag is set again


class WorkerRunner:
    """One worker: its id, and what its fetches have seen."""

    def __init__(self, runner: int, worker: Worker | None, stir: Callable[[], None]) -> None:
        self.runner = runner
        self.renewing = False
        """It is about to go on under a new id."""
        self._worker = ref(worker) if worker is not None else lambda: None
        self.sleeper = Sleeper(stir)
        self.floors, self._horizon = Floors(), Horizon()
        self.interval = float(getattr(worker, "update_heartbeat_interval", 10.0))
        self.ttl = max(_TTL, 3 * self.interval)
        self.housekeeping = Housekeeping(self.interval, self.ttl)
        self.crowded: set[str] = set()
        """Queues whose fetches took long since the last heartbeat."""
        self._next_net = 0.0
        self._turn = 0
        self._tired = False
        self._asleep_until = 0.0

    @property
    def tasks(self) -> list[str] | None:
        """The names that its app knows; None where no app is known."""
        worker = self._worker()
        return list(worker.app.tasks) if worker is not None else None

    def registration(self, runner: int) -> dict[str, Any]:
        """What the database is told of it, under this id."""
        worker = self._worker()
        tasks = worker.app.tasks if worker is not None else {}
        about = Registration(
            ttl=timedelta(seconds=self.ttl),
            slots=worker.concurrency if worker is not None else 1,
            app="procrastinate",
            host=socket.gethostname(),
            pid=os.getpid(),
            version=VERSION,
            queues=list(worker.queues) if worker is not None and worker.queues else None,
            tasks=[
                {
                    "name": name,
                    "version": 1,
                    "queue": task.queue,
                    "priority": task.priority,
                    "max_attempts": MAX_ATTEMPTS,
                    "retry": {},
                }
                for name, task in sorted(tasks.items())
            ],
            poll=getattr(worker, "fetch_job_polling_interval", 5.0),
        )
        return register_params(runner, about)

    def order(self) -> list[Class]:
        """Which classes to ask: the larger priorities first, among equal ones another queue first each time."""
        self._turn += 1
        known = sorted(self.floors.ready)
        turn = self._turn % max(len(known), 1)
        return sorted(known[turn:] + known[:turn], key=lambda found: -found[1])

    def look(self, queues: list[str] | None, tasks: list[str]) -> dict[str, Any]:
        """The parameters of one fetch."""
        now = time.monotonic()
        if now >= self._next_net or len(self.floors.ready) > _MANY_CLASSES:
            self._next_net = now + _NET
            self.floors = Floors(dict.fromkeys(self.floors.ready, 0) if len(self.floors.ready) <= _MANY_CLASSES else {})
        self.floors.add((queue, 0) for queue in queues or [])
        order = self.order()
        return {
            "runner": self.runner,
            "queues": [queue for queue, _ in order],
            "priorities": [priority for _, priority in order],
            "floors": [self.floors.ready[found] for found in order],
            "any": queues is None,
            "asleep": ASLEEP if self._tired and now > self._asleep_until - _RENEW else None,
            "arrived_floor": self.floors.arrived,
            "due_floor": self.floors.due,
            "base": self._horizon.passed.base,
            "passed": self._horizon.passed.xids,
            "tasks": tasks,
        }

    def saw(self, params: dict[str, Any], row: Row) -> bool:
        """Take one look into account; whether another may bring more."""
        before = self._horizon.mark
        snapshot = Snapshot.parse(row["snapshot"])
        lower = self._horizon.observe(snapshot, row["drawn"], Mark(row["stamp"], row["at"]), time.monotonic())
        self.floors.looked(before, seen=row["seen"], seated=row["seated"], promoted=row["promoted"])
        order = list(zip(params["queues"], params["priorities"], strict=True))
        found = list(zip(row["found_queues"] or [], row["found_priorities"] or [], strict=True))
        self.floors.add(found)
        order = sorted(order + found, key=lambda each: -each[1])
        got = {(row["queue"], row["priority"]): row["seq"]} if row["id"] is not None else {}
        self.floors.claimed(order, got, bool(got), before)
        if lower is not None:
            self.floors.lower(lower)
        if row["id"] is not None:
            self._tired, self._asleep_until = False, 0.0
            self.sleeper.found()
            return False
        more = bool(found) or row["promoted"] > 0 or row["seated"] > 0 or row["seen"] == -1 or lower is not None
        if more:
            return True
        if params["asleep"] is not None:
            self._asleep_until = time.monotonic() + ASLEEP.total_seconds()
        if self._tired:
            self.sleeper.empty(snapshot.xmin, row["drawn"])
            return False
        self._tired = (
            True  # again, and this time ask to be woken: while there is work, sixteen flags a fetch would be dear
        )
        return True
