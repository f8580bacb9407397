"""What handlers borrow from their runner: connections from a small pool, async and sync apart, and its claim's identity. In a child
connections are its own, and the identity is that which the runner had when it sent the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import psycopg_pool
from psycopg import AsyncConnection, Connection
from psycopg.rows import tuple_row

from jobrunner.errors import ConfigError
from jobrunner.worker.identity import Identity
from jobrunner.worker.link import SOCKET
from jobrunner.worker.patience import answered, limited
from jobrunner.worker.wire import Run

_MOST = 4
_LIMIT, _LAST_TRY = 3.0, 1.0  # seconds for a connection to show that it lives

SETTINGS: dict[str, Any] = {
    **SOCKET,
    "autocommit": True,
    "prepare_threshold": None,
    "row_factory": tuple_row,
    "application_name": "jobrunner handler",
}
"""Of a connection that is lent."""


class Lending:
    """The pools of one runner; opened by `open`, filled on demand, at most four connections each."""

    def __init__(self, dsn: str, identity: Identity, note_progress: Callable[[int, dict[str, Any]], None]) -> None:
        self._identity = identity
        self.note_progress = note_progress
        """See `Lender`."""
        # Checked when lent: after a restart of the server each dead one would cost some job an attempt.
        self._async = psycopg_pool.AsyncConnectionPool[AsyncConnection[Any]](
            dsn,
            kwargs=SETTINGS,
            min_size=0,
            max_size=_MOST,
            open=False,
            check=_check_async,
            name="jobrunner handlers",
        )
        self._sync = psycopg_pool.ConnectionPool[Connection[Any]](
            dsn,
            kwargs=SETTINGS,
            min_size=0,
            max_size=_MOST,
            open=False,
            check=_check,
            name="jobrunner handlers",
        )

    @property
    def runner_id(self) -> int:
        """Under which id the job is held now."""
        return self._identity.runner_id

    async def lend_async(self) -> AsyncConnection[Any]:
        """A connection for one transaction of an async handler; waits up to 30 s for one."""
        await self._async.open()
        return await self._async.getconn()

    async def take_back_async(self, conn: AsyncConnection[Any]) -> None:
        """It is not needed any more."""
        await self._async.putconn(conn)

    def lend(self) -> Connection[Any]:
        """A connection for one transaction of a sync handler; waits up to 30 s for one."""
        self._sync.open()
        return self._sync.getconn()

    def take_back(self, conn: Connection[Any]) -> None:
        """It is not needed any more."""
        self._sync.putconn(conn)

    async def close(self) -> None:
        """Close both; a handler thread that still runs finds its pool closed."""
        await self._async.close(timeout=2)
        self._sync.close(timeout=0.5)


class ChildLending:
    """The same in a child, for one run: each connection is new."""

    def __init__(self, dsn: str, run: Run, note_progress: Callable[[int, dict[str, Any]], None]) -> None:
        self.runner_id = run.runner_id
        """Under which id the job is held; not any more when the runner has gone on under another."""
        self.note_progress = note_progress
        """See `Lender`."""
        self._dsn, self._run = dsn, run

    def lend(self) -> Connection[Any]:
        """A connection. Raises ConfigError where the task has chosen a process."""
        self._check()
        return psycopg.connect(self._dsn, **SETTINGS)

    def take_back(self, conn: Connection[Any]) -> None:
        """Close it."""
        conn.close()

    async def lend_async(self) -> AsyncConnection[Any]:
        """A connection."""
        self._check()
        return await AsyncConnection.connect(self._dsn, **SETTINGS)

    async def take_back_async(self, conn: AsyncConnection[Any]) -> None:
        """Close it."""
        await conn.close()

    def _check(self) -> None:
        if not self._run.lends:
            raise ConfigError(
                "ctx.transaction()",
                f'is not there in {self._run.job.task}, which has executor="process": open a connection of its own',
            )


async def _check_async(conn: AsyncConnection[Any]) -> None:
    await answered(conn, psycopg_pool.AsyncConnectionPool.check_connection(conn), _LIMIT, _LAST_TRY)


def _check(conn: Connection[Any]) -> None:
    with limited(conn, _LIMIT, _LAST_TRY):
        psycopg_pool.ConnectionPool.check_connection(conn)
