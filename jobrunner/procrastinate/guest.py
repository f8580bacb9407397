"""A procrastinate app in the house of a runner: while the runner lives it is open on the same database, and its periodic tasks
are deferred."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import attr
import procrastinate
from procrastinate.connector import BaseConnector
from procrastinate.periodic import PeriodicDeferrer, PeriodicRegistry
from procrastinate.tasks import Task
from procrastinate.worker import Worker

from jobrunner.procrastinate.connector import JobrunnerConnector, SyncJobrunnerConnector
from jobrunner.procrastinate.handler import Crew, Handler
from jobrunner.worker.loop import Loop
from jobrunner.worker.registry import Host
from jobrunner.worker.threads import Threads

_POOL = {"min_size": 0, "max_size": 4}


class Guest:
    """The tasks of one app or blueprint, ready to be run by any number of runners of this process."""

    def __init__(
        self, app: procrastinate.App, tasks: dict[str, Task[Any, Any, Any]], periodic: PeriodicRegistry
    ) -> None:
        self.app = app
        loads: Callable[[str], Any] = getattr(app.connector, "_json_loads", None) or json.loads
        self._crew = Crew(app, loads)
        self._periodic = periodic
        self.handlers = [Handler(name, task, self._crew) for name, task in tasks.items()]
        """One for each name."""
        self._visits = 0
        self._opened = contextlib.AsyncExitStack()

    @contextlib.asynccontextmanager
    async def visit(self, host: Host) -> AsyncIterator[Iterable[Any]]:
        """Live with *host*: the app is open on its database, and its periodic tasks are deferred."""
        self._visits += 1
        if self._visits == 1:
            await self._open(host)
        try:
            yield [Loop("periodic", self._defer, 1, host.telemetry).run()] if self._periodic.periodic_tasks else []
        finally:
            self._visits -= 1
            if self._visits == 0:
                await self._opened.aclose()

    async def _open(self, host: Host) -> None:
        defaults: dict[str, Any] = {**self.app.worker_defaults}
        crew = self._crew
        crew.additional_context = defaults.get("additional_context") or {}
        crew.task_middleware = defaults.get("task_middleware") or []
        crew.worker_middleware = defaults.get("worker_middleware") or []
        crew.worker = _Foreman(host, self.app, {**defaults, "queues": host.queues, "concurrency": host.size})
        crew.threads = threads = Threads(host.size)
        self._opened.callback(threads.shutdown, wait=False)
        for handler in self.handlers:
            handler.get_ready()

        connector = _Connector(host.dsn, self.app.connector)
        self._opened.enter_context(self.app.replace_connector(connector))
        await connector.open_async()
        self._opened.push_async_callback(connector.close_async)

    async def _defer(self) -> bool:
        """Until cancelled, or until the database is not there; then anew, from the latest tick of each on. Every runner does it,
        and the row of the schedule lets one of them write the job of a tick."""
        # A registry of its own: the iterator of a cron line is a state, and two runners in one process would share it.
        own: PeriodicRegistry = copy.copy(self._periodic)
        own.periodic_tasks = {}
        for key, each in self._periodic.periodic_tasks.items():
            options: Any = {
                **each.configure_kwargs,
                "task_kwargs": {**(each.configure_kwargs.get("task_kwargs") or {})},
            }
            own.periodic_tasks[key] = attr.evolve(each, configure_kwargs=options)
        await PeriodicDeferrer(registry=own, **self.app.periodic_defaults).worker()
        return False


class _Foreman(Worker):
    """What a middleware gets as the worker: its settings, and a stop() that stops the runner."""

    def __init__(self, host: Host, app: procrastinate.App, options: dict[str, Any]) -> None:
        super().__init__(app, **options)
        self.worker_id = host.runner_id
        self._end = host.end

    def stop(self) -> None:
        """Stop the runner gracefully."""
        self._end()


class _Connector(JobrunnerConnector):
    """Of an app in a runner: in its threads sync code defers through a sync connector, because the loop is elsewhere."""

    def __init__(self, dsn: str, before: BaseConnector) -> None:
        own = {name: getattr(before, f"_{name}", None) for name in ("json_dumps", "json_loads")}
        super().__init__(dsn, **_POOL, **own)
        self._sync = SyncJobrunnerConnector(dsn, **_POOL, **own)

    def get_sync_connector(self) -> BaseConnector:
        return self._sync

    async def open_async(self, pool: Any = None) -> None:
        self._sync.open()
        await super().open_async(pool)

    async def close_async(self) -> None:
        self._sync.close()
        await super().close_async()
