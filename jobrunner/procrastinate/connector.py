"""The connectors: procrastinate's own by constructor and pool, but each of its named queries is a talk with jobrunner's tables."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterable
from typing import Any, LiteralString

import psycopg
from procrastinate import PsycopgConnector, SyncPsycopgConnector, exceptions, utils
from procrastinate.connector import BaseConnector, Notify
from psycopg.conninfo import make_conninfo

from jobrunner import config
from jobrunner.procrastinate import housekeeping
from jobrunner.procrastinate.claims import note_errors
from jobrunner.procrastinate.desk import APPLY_SCHEMA, NAMES, Desk
from jobrunner.procrastinate.driving import drive, drive_async, execute, execute_async, told
from jobrunner.procrastinate.ears import WorkerEars
from jobrunner.procrastinate.talks import Row, Say, Talk
from jobrunner.store.migrate import migrate

_PLACE = {"host", "hostaddr", "port", "dbname", "service"}
_NOT_LIBPQ = {"autocommit", "prepare_threshold", "row_factory", "cursor_factory", "context"}


class JobrunnerConnector(PsycopgConnector):
    """A connector for `procrastinate.App(connector=…)` that keeps its jobs in jobrunner's tables.

    Takes what `PsycopgConnector` takes; without a *conninfo*, or *kwargs* that say where, it is JOBRUNNER_DSN, DATABASE_URL or
    libpq's PG*. The database needs jobrunner's schema (`jobrunner migrate`, or `procrastinate schema --apply`). Errors are
    procrastinate's own: ConnectorException with one sentence, AlreadyEnqueued, AppNotOpen.
    """

    def __init__(self, conninfo: str | None = None, **options: Any) -> None:
        self._options = _pool_options(conninfo, options)
        super().__init__(**self._options)
        self._ears: set[WorkerEars] = set()
        self._desk = Desk(self._json_dumps, self._stir, lambda: any(ears.listening for ears in self._ears))
        note_errors()

    def _stir(self) -> None:
        for ears in self._ears:
            ears.stir()

    def get_sync_connector(self) -> BaseConnector:
        """Itself while it is open, else a sync one that is closed when this one opens."""
        if self._async_pool is not None:
            return self
        if self._sync_connector is None:
            options = {name: value for name, value in self._options.items() if name != "pool_factory"}
            self._sync_connector = SyncJobrunnerConnector(**options)
        return self._sync_connector

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """A named query whose rows nobody wants; also procrastinate's schema, which is ours here."""
        await self._all(None, query, arguments)

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> Row:
        """The first row of a named query; NoResult where there is none."""
        return _one(await self._all(None, query, arguments))

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[Row]:
        """The rows of a named query."""
        return await self._all(None, query, arguments)

    async def execute_query_one_async_with_connection(
        self, connection: psycopg.AsyncConnection[Any], query: LiteralString, **arguments: Any
    ) -> Row:
        """The same in the transaction of *connection*."""
        return _one(await self._all(connection, query, arguments))

    async def execute_query_all_async_with_connection(
        self, connection: psycopg.AsyncConnection[Any], query: LiteralString, **arguments: Any
    ) -> list[Row]:
        """The same in the transaction of *connection*."""
        return await self._all(connection, query, arguments)

    def execute_query_one_with_connection(self, connection: Any, query: LiteralString, **arguments: Any) -> Row:
        """The same in the transaction of *connection*, sync or async."""
        return _one(self.execute_query_all_with_connection(connection, query, **arguments))

    def execute_query_all_with_connection(self, connection: Any, query: LiteralString, **arguments: Any) -> list[Row]:
        """The same in the transaction of *connection*, sync or async."""
        if isinstance(connection, psycopg.Connection):
            return drive(self._desk.talk(query, arguments), functools.partial(execute, connection, self._json_loads))
        return utils.async_to_sync(self._all, connection, query, arguments)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str], **_: Any) -> None:
        """Wake a worker until cancelled: on one channel for all queues, and only while it sleeps."""
        ears = WorkerEars(on_notification, channels, self._desk.workers.sleepers, self._look)
        self._ears.add(ears)
        try:
            await ears.run(self._dsn)
        finally:
            self._ears.discard(ears)

    async def _look(self) -> None:
        await self._answer(None, housekeeping.sweep())

    async def _all(self, connection: Any, query: LiteralString, arguments: dict[str, Any]) -> list[Row]:
        if NAMES.get(query) == APPLY_SCHEMA:
            await asyncio.to_thread(_migrate, await self._dsn())
            return []
        return await self._answer(connection, self._desk.talk(query, arguments))

    async def _answer(self, connection: psycopg.AsyncConnection[Any] | None, talk: Talk) -> list[Row]:
        async def say(step: Say) -> list[Row]:
            if connection is not None:
                return await execute_async(connection, self._json_loads, step)
            async with self.pool.connection() as conn:
                return await execute_async(conn, self._json_loads, step)

        return await drive_async(talk, say)

    async def _dsn(self) -> str:
        """Where the pool connects to now: a function may give a new password each time."""
        conninfo, kwargs = _said(self.pool.conninfo), _said(self.pool.kwargs)
        return _as_dsn(
            await conninfo if inspect.isawaitable(conninfo) else conninfo,
            await kwargs if inspect.isawaitable(kwargs) else kwargs,
        )


class SyncJobrunnerConnector(SyncPsycopgConnector):
    """The same for an app that only defers, without an event loop."""

    def __init__(self, conninfo: str | None = None, **options: Any) -> None:
        super().__init__(**_pool_options(conninfo, options))
        self._desk = Desk(self._json_dumps, lambda: None, lambda: False)

    def execute_query(self, query: LiteralString, **arguments: Any) -> None:
        """A named query whose rows nobody wants; also procrastinate's schema, which is ours here."""
        self._all(None, query, arguments)

    def execute_query_one(self, query: LiteralString, **arguments: Any) -> Row:
        """The first row of a named query; NoResult where there is none."""
        return _one(self._all(None, query, arguments))

    def execute_query_all(self, query: LiteralString, **arguments: Any) -> list[Row]:
        """The rows of a named query."""
        return self._all(None, query, arguments)

    def execute_query_one_with_connection(
        self, connection: psycopg.Connection[Any], query: LiteralString, **arguments: Any
    ) -> Row:
        """The same in the transaction of *connection*."""
        return _one(self._all(connection, query, arguments))

    def execute_query_all_with_connection(
        self, connection: psycopg.Connection[Any], query: LiteralString, **arguments: Any
    ) -> list[Row]:
        """The same in the transaction of *connection*."""
        return self._all(connection, query, arguments)

    def _all(
        self, connection: psycopg.Connection[Any] | None, query: LiteralString, arguments: dict[str, Any]
    ) -> list[Row]:
        if NAMES.get(query) == APPLY_SCHEMA:
            _migrate(_as_dsn(_said(self.pool.conninfo), _said(self.pool.kwargs)))
            return []
        return self.answer(connection, self._desk.talk(query, arguments))

    def answer(self, connection: psycopg.Connection[Any] | None, talk: Talk) -> list[Row]:
        """Hold *talk* on *connection*, else on one of the pool."""

        def say(step: Say) -> list[Row]:
            if connection is not None:
                return execute(connection, self._json_loads, step)
            with self.pool.connection() as conn:
                return execute(conn, self._json_loads, step)

        return drive(talk, say)


def _pool_options(conninfo: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """What the pool is made with: our statements are a transaction each, and nothing is prepared (poolers, plans)."""
    kwargs = options.get("kwargs")
    if kwargs is None or isinstance(kwargs, dict):
        kwargs = {"autocommit": True, "prepare_threshold": None, **(kwargs or {})}
        if not _PLACE.isdisjoint(kwargs):  # a place must not be put together from two
            return {**options, "conninfo": conninfo or "", "kwargs": kwargs}
    return {**options, "conninfo": config.dsn(conninfo), "kwargs": kwargs}


def _said(value: Any) -> Any:
    return value() if callable(value) else value


def _as_dsn(conninfo: str, kwargs: dict[str, Any] | None) -> str:
    """The way to the database of a pool, whoever made it: by what its connections are made with."""
    return make_conninfo(conninfo, **{name: value for name, value in (kwargs or {}).items() if name not in _NOT_LIBPQ})


def _migrate(dsn: str) -> None:
    with told(), psycopg.connect(dsn, autocommit=True) as conn:
        migrate(conn)


def _one(rows: list[Row]) -> Row:
    if not rows:
        raise exceptions.NoResult
    return rows[0]
