"""Listens for wake-ups on a connection of its own, proves every 5 s that they arrive, and comes back when they do not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

import psycopg

from jobrunner.store.listener import Silent, hear, listen
from jobrunner.telemetry import Telemetry
from jobrunner.worker.link import Session, connect, pause

_PROBE = 5.0


class Ears:
    """Calls *wake* at every notification, with its payload; `listening` says whether they arrive."""

    def __init__(
        self, dsn: str, wake: Callable[[str], None], telemetry: Telemetry, on_heard: Callable[[], None] = lambda: None
    ) -> None:
        self._on_heard = on_heard
        self._dsn, self._wake, self._telemetry = dsn, wake, telemetry
        self._channel = f"jobrunner_probe_{os.getpid()}_{id(self):x}"
        self.listening = False

    async def run(self) -> None:
        """Listen until cancelled. Polling goes on meanwhile: without ears a job costs latency, never itself."""
        tries = 0
        while True:
            conn: Session | None = None
            reason = ""
            try:
                async with asyncio.timeout(
                    _PROBE * 2
                ):  # wait_for may swallow a cancellation, and a stop would never end
                    conn = await connect(self._dsn, "listen")
                    await listen(conn, self._channel)
                self._wake("")  # whatever came while nobody listened
                while True:
                    async with asyncio.timeout(_PROBE * 2):
                        async for payload in hear(conn, self._channel, _PROBE):
                            if payload is None:
                                self._hears()
                                tries = 0
                            else:
                                self._wake(payload)
            except (psycopg.Error, OSError) as error:  # TimeoutError is an OSError
                reason = str(error).strip() or type(error).__name__
            except Silent:
                reason = "notifications do not arrive (a transaction pooler? set JOBRUNNER_LISTEN_DSN)"
            finally:
                self.listening = False
                if conn is not None:
                    await _sever(conn)
            self._telemetry.emit("listener.down", reason=reason)
            tries += 1
            await asyncio.sleep(pause(tries))

    def _hears(self) -> None:
        if not self.listening:
            self.listening = True
            self._on_heard()
            self._telemetry.emit("listener.up", reason="")


async def _sever(conn: Session) -> None:
    """Close, the socket first: behind a middlebox that acknowledges for a dead server a polite good-bye would wait."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(Exception):
        await conn.close()
