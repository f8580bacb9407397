"""A process that ends in good time: after so many runs, or when it holds too much memory, its successor begins with none.

Leaks are other people's, and hard to find; a limit turns the crash that they end in into a graceful stop.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobrunner.policy.sizes import told

_EVERY = 1.0  # seconds between two looks at the memory
_SPREAD = 0.1  # of max_jobs: children that began together must not end together
_STATM = Path("/proc/self/statm")


class Recycling:
    """Calls *ask* once when a limit is reached, with "jobs" or "memory" and why in words; None is no limit.

    *max_jobs*: runs that ended, whatever their outcome, and none that was handed back; up to a tenth less, at random. *max_rss*:
    bytes of resident memory of this process, without its children.
    """

    def __init__(self, max_jobs: int | None, max_rss: int | None, ask: Callable[[str, str], None]) -> None:
        self._left = None if max_jobs is None else max_jobs - random.randint(0, int(max_jobs * _SPREAD))
        self._max_rss, self._ask = max_rss, ask
        self._jobs, self._asked = 0, False

    def observe(self, event: str, n: int, facts: dict[str, Any]) -> None:
        """An observer of the runner's telemetry."""
        if event not in ("jobs.succeeded", "jobs.settled"):
            return
        self._jobs += n - int(facts.get("handed_back", 0))
        if self._left is not None and self._jobs >= self._left:
            self._end("jobs", f"{self._jobs} jobs have run")

    async def watch(self) -> None:
        """Looks at the memory once a second until cancelled."""
        while self._max_rss is not None and not self._asked:
            if (held := rss()) > self._max_rss:
                self._end("memory", f"it holds {told(held)} of memory")
            await asyncio.sleep(_EVERY)

    def _end(self, kind: str, why: str) -> None:
        if not self._asked:
            self._asked = True
            self._ask(kind, why)


def rss() -> int:
    """Bytes of resident memory of this process; where there is no /proc, the most that it ever held."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
