"""Tasks of procrastinate in the house of a runner: ready before its first claim, and the periodic ones are deferred."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from typing import Any

import attr
import procrastinate
from procrastinate.periodic import PeriodicDeferrer

from jobrunner.procrastinate.crew import Crew
from jobrunner.procrastinate.handler import Handler
from jobrunner.worker.loop import Loop
from jobrunner.worker.registry import Host, Lend


class Guest:
    """What was included once: a whole app of procrastinate's, or a blueprint of it."""

    def __init__(self, app: procrastinate.App, blueprint: procrastinate.Blueprint) -> None:
        self.app = app
        self._crew = Crew.of(app)
        self._periodic = blueprint.periodic_registry
        self.handlers = [Handler(name, task, self._crew) for name, task in blueprint.tasks.items()]
        """One for each name."""

    @contextlib.asynccontextmanager
    async def visit(self, host: Host) -> AsyncIterator[Iterable[Coroutine[Any, Any, None]]]:
        """Live with *host*; what it yields defers the periodic tasks."""
        async with self._crew.at_work(host):
            for handler in self.handlers:
                handler.get_ready()
            yield [Loop("periodic", self._defer, 1, host.telemetry).run()] if self._periodic.periodic_tasks else []

    @contextlib.contextmanager
    def rehearse(self, lend: Lend) -> Iterator[None]:
        """Be there for a test: the app defers through *lend*, and no periodic tasks are deferred."""
        with self._crew.at_rehearsal(lend):
            for handler in self.handlers:
                handler.get_ready()
            yield

    async def _defer(self) -> bool:
        """Until cancelled, or until the database is not there; then anew, from the latest tick of each on. Every runner does it,
        and the row of the schedule lets one of them write the job of a tick."""
        # A registry of its own: the iterator of a cron line is a state, and two runners in one process would share it.
        own = copy.copy(self._periodic)
        own.periodic_tasks = {}
        for key, each in self._periodic.periodic_tasks.items():
            options: Any = {
                **each.configure_kwargs,
                "task_kwargs": {**(each.configure_kwargs.get("task_kwargs") or {})},
            }
            own.periodic_tasks[key] = attr.evolve(each, configure_kwargs=options)
        await PeriodicDeferrer(registry=own, **self.app.periodic_defaults).worker()
        return False
