"""The heartbeat: an OS thread with a connection of its own, so that a blocked event loop or a cancelled await never looks dead."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Protocol

import psycopg

from jobrunner.store import runners
from jobrunner.telemetry import log
from jobrunner.worker.link import SOCKET, pause
from jobrunner.worker.patience import limited, sever
from jobrunner.worker.vitals import Pulse as SignOfLife


class Pulse(Protocol):
    """Whom the heartbeat speaks for. Called on the heartbeat's thread."""

    @property
    def runner_id(self) -> int:
        """Under which id it lives now."""

    def vitals(self) -> tuple[int, bool]:
        """Running jobs, and whether notifications arrive."""

    def beaten(self, cancel: list[int]) -> None:
        """A beat got through; *cancel*: jobs that a person wants stopped."""

    def lost(self, runner_id: int) -> None:
        """The database says that this runner was declared lost."""


class Heartbeat:
    """Beats every *interval* seconds until stopped; a gap of more than *patience* seconds makes the lease uncertain.

    A beat without an answer is cut off early enough that the next one, on a new connection, comes well within *patience*.
    """

    def __init__(self, dsn: str, pulse: Pulse, interval: float, patience: float) -> None:
        self._dsn, self._pulse, self._interval, self._patience = dsn, pulse, interval, patience
        self._limit = max(_LEAST_LIMIT, 0.6 * interval)
        self._last_try = 0.2 * interval
        self._stop = threading.Event()
        self._again = threading.Event()
        self._thread = threading.Thread(target=self._live, name="jobrunner heartbeat", daemon=True)
        self._conn: psycopg.Connection[tuple[Any, ...]] | None = None
        self._healthy_since: float | None = None
        self.pulse = SignOfLife("heartbeat")
        self._last_good = time.monotonic()

    def start(self) -> None:
        """Begin to beat."""
        self._last_good = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; returns when the thread has ended: a beat that waits for a lock, or for a network, is cut off."""
        self._stop.set()
        self._again.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_LAST_WORD)
            if (conn := self._conn) is not None:
                sever(conn)
            self._thread.join(timeout=_LAST_WORD)  # it may be connecting; the thread is a daemon

    def nudge(self) -> None:
        """Beat now."""
        self._again.set()

    def silent_for(self) -> float:
        """Seconds since the last beat that got through was sent. Ask from outside: a beat may hang for ever in a statement
        that a frozen server never answers."""
        return time.monotonic() - self._last_good

    def healthy_for(self) -> float:
        """Seconds that beats have got through without a gap; 0 while the last one failed or is overdue.

        After a longer gap (a server that froze, a host that slept) everybody's beats are old: nobody may be judged by them.
        """
        since, now = self._healthy_since, time.monotonic()
        return 0.0 if since is None or now - self._last_good > self._patience else now - since

    def _live(self) -> None:
        tries = 0
        while not self._stop.is_set():
            began = time.monotonic()
            self.pulse.rest()  # a frozen server may never answer, and this thread is not to blame
            try:
                if self._conn is None:
                    self._conn = psycopg.connect(self._dsn, autocommit=True, prepare_threshold=None, **_SOCKET)
                runner_id = self._pulse.runner_id
                busy, listening = self._pulse.vitals()
                with limited(self._conn, self._limit, self._last_try):
                    alive, cancel = runners.beat(self._conn, runner_id, busy, listening=listening)
            except Exception as error:
                # Whatever it is, a heartbeat that ends is worse than one that tries again.
                if tries == 0 and not self._stop.is_set():
                    log.warning("heartbeat failed: %s", str(error).strip().partition("\n")[0])
                self._healthy_since = None
                self._close()
                tries += 1
                self.pulse.beat()
                self._stop.wait(pause(tries, min(2.0, self._interval)))
                continue
            if self._stop.is_set():
                break  # nobody is left to hear of it
            tries = 0
            self.pulse.beat()
            if alive:
                if self._healthy_since is None or time.monotonic() - self._last_good > self._patience:
                    self._healthy_since = time.monotonic()
                # From before the statement: the server may have stamped it at any time since.
                self._last_good = began
                self._pulse.beaten(cancel)
            else:
                self._pulse.lost(runner_id)
            self._again.wait(self._interval if alive else min(0.2, self._interval))
            self._again.clear()
        self._close()

    def _close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with contextlib.suppress(Exception):
                conn.close()


_LAST_WORD = 0.5  # seconds for the beat that is under way at the end
_LEAST_LIMIT = 1.0  # seconds for a beat: a machine that is short of everything is no proof of a dead connection
_SOCKET = {**SOCKET, "connect_timeout": 4, "tcp_user_timeout": 4_000, "application_name": "jobrunner heartbeat"}
