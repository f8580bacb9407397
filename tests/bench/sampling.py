"""Where the CPU time of a process goes, by part: a sampler of the main thread's stack, for bin/bench profile.

Every so many microseconds of CPU time (of the process, not of the clock) a signal looks at the stack; the innermost frame
that belongs to a part gets the sample. C code has no frames: its time goes to the Python that called it.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from types import FrameType, TracebackType
from typing import Self

INTERVAL = 0.001

PARTS = {
    ("store/jobs.py", "claim"): "claim: send, receive, parse",
    ("store/jobs.py", "finish"): "settle: send, receive, parse",
    ("store/jobs.py", "tick"): "look around",
    ("worker/task.py", "read"): "executor: arguments",
    ("worker/executor.py", ""): "executor: the rest",
    ("worker/context.py", ""): "executor: the rest",
    ("worker/slots.py", ""): "slots",
    ("worker/settler.py", ""): "settler",
    ("worker/claimer.py", ""): "claimer",
    ("worker/runner.py", "_settle"): "settler",
    ("bench/noop.py", "noop"): "handler",
    ("asyncio/", ""): "event loop",
}
"""The part of a frame by the end of its file and, where given, its function."""


class Sampler:
    """Samples between enter and exit."""

    def __init__(self) -> None:
        self._samples: Counter[str] = Counter()
        self._parts: dict[tuple[str, str], str | None] = {}
        self._cpu = self._clock = 0.0

    def __enter__(self) -> Self:
        self._cpu, self._clock = time.process_time(), time.monotonic()
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._cpu, self._clock = time.process_time() - self._cpu, time.monotonic() - self._clock

    def report(self) -> dict[str, float]:
        """Seconds of CPU by part, all together what the process used."""
        total = self._samples.total() or 1
        return {part: self._cpu * n / total for part, n in self._samples.most_common()}

    def _sample(self, number: int, frame: FrameType | None) -> None:
        while frame is not None:
            code = frame.f_code
            place = (code.co_filename, code.co_name)
            if place not in self._parts:
                self._parts[place] = _part(*place)
            if part := self._parts[place]:
                self._samples[part] += 1
                return
            frame = frame.f_back
        self._samples["the rest"] += 1


def _part(file: str, function: str) -> str | None:
    for (path, name), part in PARTS.items():
        if (file.endswith(path) or (path.endswith("/") and path in file)) and name in ("", function):
            return part
    return None
