"""What the handlers of one procrastinate app have in common while a runner is there: the app is open on the runner's database, its
sync tasks have threads, its middlewares a worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, cast

import procrastinate
import psycopg
from procrastinate.connector import BaseConnector
from procrastinate.worker import Worker

from jobrunner.procrastinate.connector import JobrunnerConnector, SyncJobrunnerConnector
from jobrunner.procrastinate.talks import Row, Talk
from jobrunner.worker.registry import Host, Lend
from jobrunner.worker.threads import Threads

_POOL: dict[str, Any] = {"min_size": 0, "max_size": 4}
_NAME = "_jobrunner_crew"


class Crew:
    """Of one app, whoever runs it in this process."""

    def __init__(self, app: procrastinate.App) -> None:
        self.app = app
        self.loads: Callable[[str], Any] = getattr(app.connector, "_json_loads", None) or json.loads
        """Reads arguments: the app's own decoder of JSON, or Python's."""
        self.worker: Worker | None = None
        """What a middleware is given: the latest runner in the form of a worker."""
        self.threads: Executor | None = None
        """Where sync tasks run."""
        self.additional_context: dict[str, Any] = {}
        """From the worker_defaults of the app, as the next two."""
        self.task_middleware: Sequence[Callable[..., Any]] = ()
        self.worker_middleware: Sequence[Callable[..., Any]] = ()
        self._visits = 0
        self._opened = contextlib.AsyncExitStack()

    @classmethod
    def of(cls, app: procrastinate.App) -> Crew:
        """The one that *app* has."""
        crew: Crew = vars(app).setdefault(_NAME, cls(app))
        return crew

    @contextlib.asynccontextmanager
    async def at_work(self, host: Host) -> AsyncIterator[None]:
        """While a runner is there. With several in one process the first one's database counts."""
        defaults = self._read_defaults()
        self.worker = _Foreman(host, self.app, {**defaults, "queues": host.queues, "concurrency": host.size})
        self._visits += 1
        try:
            if self._visits == 1:
                await self._open(host)
            yield
        finally:
            self._visits -= 1
            if self._visits == 0:
                await self._opened.aclose()

    @contextlib.contextmanager
    def at_rehearsal(self, lend: Lend) -> Iterator[None]:
        """While a test drains: what the tasks defer goes through *lend*. Nobody listens to the stop() of this worker."""
        self.worker = Worker(self.app, **self._read_defaults())
        with self.app.replace_connector(_Borrower(lend, self.app.connector)):
            yield

    def _read_defaults(self) -> dict[str, Any]:
        defaults: dict[str, Any] = {**self.app.worker_defaults}
        self.additional_context = defaults.get("additional_context") or {}
        self.task_middleware = defaults.get("task_middleware") or []
        self.worker_middleware = defaults.get("worker_middleware") or []
        return defaults

    async def _open(self, host: Host) -> None:
        self.threads = threads = Threads(host.size)
        self._opened.callback(threads.shutdown, wait=False)
        connector = _Connector(host.dsn, self.app.connector)
        self._opened.enter_context(self.app.replace_connector(connector))
        await connector.open_async()
        self._opened.push_async_callback(connector.close_async)


class _Foreman(Worker):
    """What a middleware gets as the worker: its settings, and a stop() that stops the runner."""

    def __init__(self, host: Host, app: procrastinate.App, options: dict[str, Any]) -> None:
        super().__init__(app, **options)
        self.worker_id = host.runner_id
        self._host, self._host_loop = host, asyncio.get_running_loop()

    def stop(self) -> None:
        """Stop the runner gracefully; from any thread."""
        self._host_loop.call_soon_threadsafe(self._host.end, "a middleware")


class _Connector(JobrunnerConnector):
    """Of an app in a runner: in its threads sync code defers through a sync connector, because the loop is elsewhere."""

    def __init__(self, dsn: str, before: BaseConnector) -> None:
        own = _own_json(before)
        super().__init__(dsn, **_POOL, **own)
        self._sync = SyncJobrunnerConnector(dsn, **_POOL, **own)

    def get_sync_connector(self) -> BaseConnector:
        """The sync one."""
        return self._sync

    async def open_async(self, pool: Any = None) -> None:
        """Both."""
        self._sync.open()
        await super().open_async(pool)

    async def close_async(self) -> None:
        """Both."""
        self._sync.close()
        await super().close_async()


class _Borrower(JobrunnerConnector):
    """Of an app in a test, which has one connection: each statement blocks, so that no two meet on it."""

    def __init__(self, lend: Lend, before: BaseConnector) -> None:
        own = _own_json(before)
        super().__init__(**own)
        self._sync, lender = SyncJobrunnerConnector(**own), _Lender(lend)
        self._sync.open(cast("Any", lender))

    def get_sync_connector(self) -> BaseConnector:
        """The sync one."""
        return self._sync

    async def _answer(self, connection: psycopg.AsyncConnection[Any] | None, talk: Talk) -> list[Row]:
        return await super()._answer(connection, talk) if connection is not None else self._sync.answer(None, talk)


class _Lender:
    """What a sync connector knows of its pool."""

    def __init__(self, lend: Lend) -> None:
        self.connection = lend


def _own_json(connector: BaseConnector) -> dict[str, Any]:
    return {name: getattr(connector, f"_{name}", None) for name in ("json_dumps", "json_loads")}
