"""Listens for wake-ups on a connection of its own, proves every 5 s that they arrive, and comes back when they do not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg

from jobrunner.store.listener import Silent, ask, hear, is_lasting, is_lent, listen
from jobrunner.telemetry import Telemetry, log
from jobrunner.worker.link import connect, pause
from jobrunner.worker.patience import Session, answered, sever
from jobrunner.worker.vitals import Pulse

_PROBE = 5.0
_LENT_PAUSE = 60.0  # seconds, at the most, until it looks again whether the pooler is gone


class Lent(Silent):
    """A pooler lends out the server's sessions: to LISTEN would leave one of them listening for whoever gets it next."""


class Ears:
    """Calls *wake* at every notification, with its payload; `listening` says whether they arrive.

    *dsn*: where to, or who says so before each connection. *around*: an address past the pooler that *dsn* leads through. Whoever
    gives one answers for it that its sessions are lasting; it is proved by a notification that is sent through *dsn*. Without it
    nothing listens behind a pooler.
    """

    def __init__(
        self,
        dsn: str | Callable[[], Awaitable[str]],
        wake: Callable[[str], None],
        telemetry: Telemetry,
        on_heard: Callable[[], None] = lambda: None,
        *,
        around: str | None = None,
    ) -> None:
        self._on_heard = on_heard
        self._dsn, self._around, self._wake, self._telemetry = dsn, around, wake, telemetry
        self._channel = f"jobrunner_probe_{os.getpid()}_{id(self):x}"
        self.listening = False
        self.pulse = Pulse(
            "listen", patience=_PROBE * 12
        )  # to begin takes several answers, each of which may take some seconds

    async def run(self) -> None:
        """Listen until cancelled. Polling goes on meanwhile: without ears a job costs latency, never itself."""
        tries, told = 0, ""
        while True:
            conn: Session | None = None
            reason, longest = "", 5.0
            self.pulse.beat()
            try:
                conn = await connect(self._around or await self._address(), "listen")
                await self._begin(conn)
                self._wake("")  # whatever came while nobody listened
                while True:
                    async for payload in hear(conn, self._channel, _PROBE):
                        self.pulse.beat()
                        if payload is None:
                            self._hears()
                            tries, told = 0, ""
                        else:
                            self._wake(payload)
                    await self._ask(conn)
            except Lent as silent:
                reason, longest = str(silent), _LENT_PAUSE
            except (Silent, psycopg.Error, OSError) as error:
                reason = str(error).strip() or type(error).__name__
            finally:
                self.listening = False
                if conn is not None:
                    await _leave(conn)
            self._telemetry.emit("listener.down", reason=reason)
            if reason != told:
                log.warning("hears no notifications, looks at its poll interval: %s", reason.partition("\n")[0])
                told = reason
            tries += 1
            await self.pulse.sleep(pause(tries, longest))

    async def _begin(self, conn: Session) -> None:
        """Listen where that lasts, and ask for the first proof where jobs are written: that shows that it is the same database."""
        if await answered(conn, is_lent(conn), *_patience()):
            if self._around is None:
                raise Lent("a pooler is in between; set JOBRUNNER_LISTEN_DSN to a direct address")
            async with _second(self._around) as other:
                if not await answered(conn, is_lasting(conn, other), *_patience()):
                    raise Lent("JOBRUNNER_LISTEN_DSN leads through a pooler; set it to a direct address")
        await answered(conn, listen(conn, self._channel), *_patience())
        if self._around is None:
            await self._ask(conn)
        else:
            async with _second(await self._address()) as sender:
                await self._ask(sender)

    async def _address(self) -> str:
        if isinstance(self._dsn, str):
            return self._dsn
        try:
            return await self._dsn()
        except Exception as error:  # of another's code: a vault that does not answer must not end the listening
            raise Silent(f"nobody says where the database is: {error}") from error

    async def _ask(self, conn: Session) -> None:
        await answered(conn, ask(conn, self._channel), *_patience())

    def _hears(self) -> None:
        if not self.listening:
            self.listening = True
            self._on_heard()
            self._telemetry.emit("listener.up", reason="")


@contextlib.asynccontextmanager
async def _second(dsn: str) -> AsyncIterator[Session]:
    conn = await connect(dsn, "listen")
    try:
        yield conn
    finally:
        await _leave(conn)


async def _leave(conn: Session) -> None:
    """Without a polite good-bye, which would wait for a server that does not answer."""
    sever(conn)
    with contextlib.suppress(Exception):
        await conn.close()


def _patience() -> tuple[float, float]:
    """Seconds for an answer, and for one to a request to cancel: with the probe before them, less than two probes."""
    return 0.6 * _PROBE, 0.2 * _PROBE
