"""A connection that comes back: one purpose, one PostgreSQL session at a time, and the SQLSTATE policy at its edge."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import tuple_row

from jobrunner.policy.sqlstate import NEEDS_READ_COMMITTED, Trouble, classify
from jobrunner.telemetry import log
from jobrunner.worker import patience
from jobrunner.worker.patience import Session, answered

P = ParamSpec("P")
R = TypeVar("R")

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_EXHAUSTED_WAIT = 30.0
_LONG = 1.0  # seconds of a call that say: the database holds us up

# Keepalives find a peer that is gone; tcp_user_timeout one that still acknowledges nothing. Both work through poolers.
SOCKET: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "connect_timeout": 5,
    "target_session_attrs": "read-write",
}


class Lost(Exception):
    """The connection was lost while a statement was under way: whether it committed is not known."""


class Broken(Exception):
    """The set-up is wrong; trying again cannot help."""


def pause(tries: int, longest: float = _LONGEST_WAIT) -> float:
    """Seconds before the next try: exponential with full jitter, so that a fleet does not come back in one wave."""
    return random.uniform(0, min(longest, _FIRST_WAIT * 2 ** min(tries, 10)))


def trouble(error: psycopg.Error) -> Trouble:
    """The answer to *error*, by its SQLSTATE."""
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return Trouble.RECONNECT
    if isinstance(error, psycopg.InterfaceError):
        return Trouble.RECONNECT
    return classify(error.sqlstate)


class Link:
    """One purpose's connection; calls of several coroutines follow one another. *limit*: seconds that a call may take; None is
    what `patience` says. *whole*: a call may be put into one transaction."""

    def __init__(self, dsn: str, purpose: str, *, limit: float | None = None, whole: bool = True) -> None:
        self._dsn, self.purpose, self._limit, self._whole = dsn, purpose, limit, whole
        self._conn: Session | None = None
        self._turn = asyncio.Lock()
        self._began: float | None = None  # the call that is under way
        self._held_up = 0.0  # when the last long one ended

    async def run(
        self, call: Callable[Concatenate[Session, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """`call(conn, …)` once, on a session that was alive before.

        Raises:
            Lost: the session broke during the call or gave no answer in time, or the server cannot be used now. The next run
                opens a new one.
            Broken: a configuration error.
            psycopg.Error: anything else; the session is still good.
        """
        async with self._turn:
            self._began = began = time.monotonic()
            try:
                return await self._run(call, *args, **kwargs)
            finally:
                self._began = None
                if (ended := time.monotonic()) - began > _LONG:
                    self._held_up = ended

    def held_up_until(self) -> float:
        """Until when, on the monotonic clock, the database kept a call waiting: now, while one takes longer than a second."""
        now = time.monotonic()
        return now if self._began is not None and now - self._began > _LONG else self._held_up

    async def _run(
        self, call: Callable[Concatenate[Session, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        conn = await self._session()
        statement = call if conn.isolation_level is None or not self._whole else _in_transaction(call)
        try:
            return await answered(
                conn, statement(conn, *args, **kwargs), self._limit or patience.LIMIT, patience.LAST_TRY
            )
        except psycopg.Error as error:
            match trouble(error):
                case Trouble.RECONNECT | Trouble.WAIT:
                    await self.close()
                    raise Lost(str(error)) from error
                case Trouble.STOP if (
                    error.sqlstate == NEEDS_READ_COMMITTED and conn.isolation_level is None and self._whole
                ):
                    # A pooler's sessions may differ: one began before the role's default was changed. Nothing was done yet.
                    await conn.set_isolation_level(IsolationLevel.READ_COMMITTED)
                    return await self._run(call, *args, **kwargs)
                case Trouble.STOP:
                    raise Broken(str(error)) from error
                case _:
                    if conn.broken or conn.closed:
                        await self.close()
                        raise Lost(str(error)) from error
                    raise
        except asyncio.CancelledError:
            self._conn = None  # closed by `answered`: the answer may still come, and nobody else may read it
            raise

    async def open_once(self) -> Session:
        """The connection, tried once: raises psycopg's error when it cannot be had."""
        self._conn = await connect(self._dsn, self.purpose)
        return self._conn

    async def _session(self) -> Session:
        tries = 0
        while self._conn is None or self._conn.broken or self._conn.closed:
            try:
                self._conn = await connect(self._dsn, self.purpose)
            except psycopg.Error as error:
                answer = trouble(error)
                if answer is Trouble.STOP:
                    raise Broken(str(error)) from error
                if tries == 0:
                    log.warning("%s: no connection: %s", self.purpose, str(error).strip().partition("\n")[0])
                tries += 1
                await asyncio.sleep(pause(tries, _EXHAUSTED_WAIT if answer is Trouble.WAIT else _LONGEST_WAIT))
        return self._conn

    async def close(self) -> None:
        """Give the session up; never raises."""
        conn, self._conn = self._conn, None
        if conn is not None:
            with contextlib.suppress(Exception):
                await conn.close()


def _in_transaction(
    call: Callable[Concatenate[Session, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Session, P], Coroutine[Any, Any, R]]:
    async def run(conn: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        async with conn.transaction():
            return await call(conn, *args, **kwargs)

    return run


async def connect(dsn: str, purpose: str) -> Session:
    """A session for our own statements: autocommit, nothing prepared, nothing set that has to last.

    READ COMMITTED whatever the role's default: where that is another one `isolation_level` is set, and a Link begins its
    transactions with it. A setting of the session would be lost, or become somebody else's, behind a transaction pooler.
    """
    conn = await AsyncConnection.connect(
        dsn,
        autocommit=True,
        prepare_threshold=None,
        row_factory=tuple_row,
        **{**SOCKET, "application_name": f"jobrunner {purpose}"},
    )
    try:
        if await answered(conn, _default_isolation(conn), patience.LIMIT / 2, patience.LAST_TRY) != "read committed":
            await conn.set_isolation_level(IsolationLevel.READ_COMMITTED)
    except BaseException as error:
        if not isinstance(error, asyncio.CancelledError):  # then `answered` closes it
            await conn.close()
        raise
    return conn


async def _default_isolation(conn: Session) -> str:
    row = await (await conn.execute("select current_setting('default_transaction_isolation')")).fetchone()
    assert row is not None
    return str(row[0])
