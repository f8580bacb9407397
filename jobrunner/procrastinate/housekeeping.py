"""What keeps a queue moving where only procrastinate's workers run: with each heartbeat the rounds that a runner makes.

Retention is not among them: old days of history are dropped by jobrunner's own runners (`jobrunner run`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg

from jobrunner.procrastinate.talks import Say, Talk
from jobrunner.store.queries import query
from jobrunner.telemetry import log

_RESCUE = query("rescue")
_SWEEP = query("sweep")
_UNPARK = query("unpark")
_PARK = query("park")
_SEQUENCE = query("sequence")

_ROWS = 500
_PARKED = 5000


class Housekeeping:
    """The rounds of one worker, and whether it may judge others: after an outage every beat looks old at once."""

    def __init__(self, interval: float, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._ttl, self._clock = interval, ttl, clock
        self._last = self._healthy_since = clock()

    def round(self, tasks: list[str] | None, crowded: list[str]) -> Talk:
        """After a beat that got through; *tasks*: what its app knows, *crowded*: queues whose claims take long. Raises nothing."""
        now = self._clock()
        if now - self._last > 2 * self._interval:
            self._healthy_since = now
        self._last = now
        if now - self._healthy_since >= self._ttl / 2:
            yield from _step(_RESCUE, n=_ROWS)
        yield from sweep()
        yield from unpark(tasks)
        for queue in crowded:
            yield from _step(_PARK, queue=queue, n=_PARKED)
        # Dead jobs leave events: where no runner of jobrunner's moves them into the log, they would pile up.
        yield from _step(_SEQUENCE, n=_ROWS, floor=0, alone=True, base=0, passed=[])
        return []


def sweep() -> Talk:
    """Move jobs that ended in place, and pass on the turns of their locks."""
    return _step(_SWEEP, n=_ROWS)


def unpark(tasks: list[str] | None) -> Talk:
    """Make parked jobs of these tasks ready."""
    return _step(_UNPARK, tasks=tasks or [], versions=[1] * len(tasks or []), n=_ROWS)


def _step(statement: LiteralString, **params: Any) -> Talk:
    # A heartbeat that fails stops procrastinate's worker: what is only done for others must not.
    try:
        return (yield Say(statement, params))
    except psycopg.Error as error:
        log.warning("procrastinate's housekeeping: %s", str(error).strip().partition("\n")[0])
        return []
