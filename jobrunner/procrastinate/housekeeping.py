"""What keeps a queue moving where only procrastinate's workers run: with each heartbeat the rounds that a runner makes.

Retention is not among them: old days of history are dropped by jobrunner's own runners (`jobrunner run`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from jobrunner.procrastinate.talks import Say, Talk
from jobrunner.store.queries import query

_PRUNE = query("procrastinate_prune")
_RESCUE = query("rescue")
_SWEEP = query("sweep")
_UNPARK = query("unpark")
_SEQUENCE = query("sequence")

_ROWS = 500


class Housekeeping:
    """The rounds of one worker, and whether it may judge others: after an outage every beat looks old at once."""

    def __init__(self, interval: float, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._ttl, self._clock = interval, ttl, clock
        self._last = self._healthy_since = clock()

    def round(self, tasks: list[str] | None) -> Talk:
        """After a beat that got through; *tasks*: what its app knows."""
        now = self._clock()
        if now - self._last > 2 * self._interval:
            self._healthy_since = now
        self._last = now
        if now - self._healthy_since >= self._ttl / 2:
            yield Say(_RESCUE, {"n": _ROWS})
        yield from sweep()
        if tasks:
            yield Say(_UNPARK, {"tasks": tasks, "versions": [1] * len(tasks), "n": _ROWS})
        # Dead jobs leave events: where no runner of jobrunner's moves them into the log, they would pile up.
        yield Say(_SEQUENCE, {"n": _ROWS, "floor": 0, "alone": True, "base": 0, "passed": []})
        return []


def sweep() -> Talk:
    """Move jobs that ended in place, and pass on the turns of their locks."""
    yield Say(_SWEEP, {"n": _ROWS})
    return []


def prune_stalled_workers(*, seconds_since_heartbeat: float) -> Talk:
    """[{worker_id}] of those that are lost; unlike procrastinate's it gives their jobs back too."""
    return (yield Say(_PRUNE, {"seconds": seconds_since_heartbeat}))
