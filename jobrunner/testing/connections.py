"""One session in two colours, and the one that a test is bound to.

A twin is a second connection object on the same session: the async one of a sync connection, or the reverse. A test has one
transaction, and both kinds of handlers and all assertions work in it. Never use two of them at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from jobrunner.errors import ConfigError
from jobrunner.store import migrate
from jobrunner.store.queries import query

Either: TypeAlias = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
Sync: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Async: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
C = TypeVar("C", Sync, Async)

_PREPARE = query("testing_prepare")

_bound: ContextVar[Either | None] = ContextVar("jobrunner_testing", default=None)
_latest: list[Either] = []  # some plugins run an async test in another context than its fixtures


def sync_twin(conn: Either) -> Sync:
    """A sync connection on the session of *conn*, with rows as tuples."""
    with _handlers_kept(conn):
        return _adopted(psycopg.Connection(conn.pgconn), conn)


def async_twin(conn: Either) -> Async:
    """An async connection on the session of *conn*, with rows as tuples."""
    with _handlers_kept(conn):
        return _adopted(psycopg.AsyncConnection(conn.pgconn), conn)


@contextmanager
def _handlers_kept(conn: Either) -> Iterator[None]:
    """A new connection object takes them for itself; notices and notifications are for the one that the caller knows."""
    session = conn.pgconn
    notice, notify = session.notice_handler, session.notify_handler
    yield
    session.notice_handler, session.notify_handler = notice, notify


def _adopted(twin: C, conn: Either) -> C:
    twin._adapters = conn.adapters
    twin._pool = None  # not its own to close: without this it warns when it goes
    twin.prepare_threshold = None  # the names of prepared statements are the session's
    return twin


def transaction_of(conn: Either) -> Sync:
    """The sync twin of *conn* in its open transaction; begins one where the connection begins them by itself.

    Raises:
        ConfigError: it is in autocommit and in no transaction.
    """
    if conn.autocommit and conn.info.transaction_status is TransactionStatus.IDLE:
        problem = "is in autocommit and in no transaction, and nothing could be rolled back: conn.transaction(force_rollback=True)"
        raise ConfigError("the connection of a test", problem)
    return sync_twin(conn)


@contextmanager
def use(conn: Either) -> Iterator[None]:
    """Inside, assertions without `conn=` look through *conn*. The fixture `jobrunner_conn` does this for the whole test."""
    before = _bound.get()
    _bound.set(conn)
    _latest.append(conn)
    try:
        yield
    finally:
        _latest.remove(conn)
        _bound.set(before)


def bound(conn: Either | None) -> Sync:
    """What an assertion looks through: *conn*, else the one that is in use, as a sync connection.

    Raises:
        ConfigError: neither.
    """
    chosen = conn or _bound.get() or next(reversed(_latest), None)
    if chosen is None:
        raise ConfigError(
            "an assertion", "needs a connection: give conn=, or use the fixture jobrunner_conn, or `with use(conn):`"
        )
    return sync_twin(chosen)


@contextmanager
def opened(dsn: str) -> Iterator[Sync]:
    """A connection in a transaction that is rolled back at the end, in use for assertions.

    Raises:
        SchemaMismatch: the database waits for `jobrunner migrate`.
    """
    with psycopg.connect(dsn, autocommit=True) as conn:
        migrate.check(migrate.installed(conn))
        conn.execute(_PREPARE)
        with conn.transaction(force_rollback=True), use(conn):
            yield conn
