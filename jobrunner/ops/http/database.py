"""How the pages read: a few connections that cannot write, each read a short transaction, and an end to waiting.

A read is one snapshot (repeatable read, read only) with a statement timeout that holds behind a transaction pooler too. The
functions of store are sync, so a read runs in a thread; when the server does not answer at all, its socket is shut.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobrunner import config
from jobrunner.errors import DatabaseUnavailable
from jobrunner.store.failures import told_plainly
from jobrunner.store.migrate import check, installed
from jobrunner.store.reading import Connection
from jobrunner.worker.patience import sever

T = TypeVar("T")

CONNECTIONS = 4
STATEMENT = 5.0
"""Seconds that one statement may take."""

_CONNECT = 3  # seconds
_GRACE = 2.0  # seconds more than all its statements may take, after which a read is given up
_STATEMENTS = 2  # so many of them may be slow


class Reader:
    """Reads from one database with at most four connections. Made without one: it connects when it is first asked."""

    def __init__(self, dsn: str | None, application_name: str = "jobrunner web") -> None:
        self._told = config.dsn(dsn)  # what errors show
        given = conninfo_to_dict(self._told)
        named = {"application_name": application_name, "connect_timeout": str(_CONNECT), **given}
        self._dsn = make_conninfo("", **named)
        self._idle: deque[Connection] = deque()
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="jobrunner web")

    async def read(self, work: Callable[[Connection], T], *, statement: float = STATEMENT) -> T:
        """`work(conn)` in a transaction of its own; no statement of it may take longer than *statement* seconds.

        Raises:
            DatabaseUnavailable: no server, none that answers, or one that takes too long.
            SchemaMismatch, MissingPrivilege: what else can be wrong with it.
        """
        loop, turn = asyncio.get_running_loop(), _Turn(work, statement)
        limit = loop.call_later(_CONNECT + _STATEMENTS * statement + _GRACE, turn.give_up)
        try:
            return await loop.run_in_executor(self._threads, self._take_turn, turn)
        except asyncio.CancelledError:
            turn.give_up()
            raise
        finally:
            limit.cancel()

    def _take_turn(self, turn: _Turn[T]) -> T:
        try:
            with told_plainly(self._told):
                return self._read(turn)
        except Exception as error:
            if turn.given_up:
                raise DatabaseUnavailable(self._told, "it does not answer in time") from error
            raise

    def _read(self, turn: _Turn[T]) -> T:
        with contextlib.suppress(IndexError):
            conn = self._idle.pop()
            try:
                return self._on(conn, turn)
            except psycopg.OperationalError:
                if not conn.closed or turn.given_up:
                    raise  # else it had died while it lay here: a new one knows more
        return self._on(_connect(self._dsn), turn)

    def _on(self, conn: Connection, turn: _Turn[T]) -> T:
        try:
            answer = turn.run(conn)
        except psycopg.Error:
            if conn.closed or conn.broken:
                conn.close()
            else:
                self._idle.append(conn)
            raise
        except BaseException:
            conn.close()
            raise
        self._idle.append(conn)
        return answer

    def close(self) -> None:
        """Close the connections that are idle."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().close()


class _Turn(Generic[T]):
    """One read, which another thread may have to give up."""

    def __init__(self, work: Callable[[Connection], T], statement: float) -> None:
        self._work, self._statement = work, statement
        self._conn: Connection | None = None
        self.given_up = False

    def run(self, conn: Connection) -> T:
        self._conn = conn
        try:
            if self.given_up:
                raise psycopg.OperationalError("given up")
            with conn.transaction():
                milliseconds = str(int(self._statement * 1000))
                conn.execute("select set_config('statement_timeout', %s, true)", [milliseconds])
                check(installed(conn))
                return self._work(conn)
        finally:
            self._conn = None

    def give_up(self) -> None:
        """Shut the socket: whoever waits for an answer on it gets an error."""
        self.given_up = True
        if (conn := self._conn) is not None:
            sever(conn)


def _connect(dsn: str) -> Connection:
    conn: Connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
    conn.read_only = True
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return conn


class Shared(Generic[T]):
    """One answer for all who ask at about the same time: what is dear is read once, however many pages are open.

    An answer is good for *fresh* seconds, or for four times as long as it took: so that it takes a fifth of the time at the most.
    A failure is shared for a second.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], fresh: float) -> None:
        self._read, self._fresh = read, fresh
        self._reading: asyncio.Future[T] | None = None
        self._good_until = 0.0

    async def get(self) -> T:
        """The answer; raises what reading it raised."""
        if self._reading is None or (self._reading.done() and time.monotonic() >= self._good_until):
            self._reading = asyncio.ensure_future(self._read_once())
        return await asyncio.shield(self._reading)

    async def _read_once(self) -> T:
        began = time.monotonic()
        good_for = 1.0
        try:
            answer = await self._read()
            good_for = max(self._fresh, 4 * (time.monotonic() - began))
            return answer
        finally:
            self._good_until = time.monotonic() + good_for
