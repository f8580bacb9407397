"""What a runner tells about itself: counts, and events for whoever listens. Observers see; they cannot change anything.

| event                 | n                  | facts                    | when                                                     |
|-----------------------|--------------------|--------------------------|----------------------------------------------------------|
| runner.registering    |                    | runner                   | it is about to become known under this id                |
| runner.started        |                    | runner                   | it is registered and claims                              |
| runner.renewed        | jobs kept          | runner, old              | it goes on under a new id after it lost its connection   |
| runner.uncertain      |                    | silent_seconds           | its lease may have run out: it stops claiming            |
| runner.stopped        | jobs handed back   | runner                   | it said good-bye                                         |
| claim.made            | jobs, may be 0     | seconds                  | one claim                                                |
| claimer.woken         |                    | reason                   | it slept and goes on: notify, poll, timer or local       |
| jobs.claimed          | jobs               |                          | one claim that brought any                               |
| jobs.succeeded        | jobs               |                          | one settlement of successes was accepted                 |
| jobs.settled          | jobs               | handed_back (of them)    | one settlement of other outcomes was accepted            |
| jobs.stale            | jobs               | ids                      | settlements were refused: another attempt has the job    |
| jobs.rescued          | jobs               |                          | jobs of dead runners were given back                     |
| jobs.parked           | jobs               | queue                    | jobs of unknown tasks were put out of the way            |
| job.failed            |                    | job, task, error, context| a handler raised                                         |
| job.crashed           |                    | the same                 | it killed the process that it had to itself              |
| job.timed_out         |                    | the same                 | a handler was still running at its timeout               |
| job.invalid           |                    | the same                 | arguments, or an event, do not fit the code              |
| job.late_error        |                    | the same                 | a handler raised after its job was finished in place     |
| events.sequenced      | events             |                          | one step from the outbox into the log                    |
| events.delivered      | deliveries         |                          | of such a step                                           |
| events.replayed       | deliveries         |                          | of one step of a walk over the log                       |
| subscription.differs  |                    | subscription,            | the code declares it differently; it stays as it is      |
|                       |                    | differences              |                                                          |
| listener.up, .down    |                    | reason                   | notifications arrive, or do not (polling goes on)        |
| loop.failed           |                    | loop, error              | a background step failed; it is tried again              |
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

Observer: TypeAlias = Callable[[str, int, dict[str, Any]], None]
"""Takes the event's name, its n and its facts. Called on the event loop: it must not block."""

RunObserver: TypeAlias = Callable[[str, str, str, float | None, float | None], None]
"""Takes queue, task and outcome of a run that has ended, the seconds that its job was due before it was claimed, and those that it
ran; both None when it was handed back unstarted. Called on the event loop, up to 50,000 times a second: it must be quick."""

log = logging.getLogger("jobrunner")


class Telemetry:
    """The counts and observers of one runner."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._observers: list[Observer] = []
        self.on_run: RunObserver | None = None
        """Told of every run, where somebody wants that: it is no event, because nobody pays for it otherwise."""

    def attach(self, observer: Observer) -> None:
        """Call *observer* at every event from now on."""
        self._observers.append(observer)

    def detach(self, observer: Observer) -> None:
        """Call *observer* no more."""
        self._observers.remove(observer)

    def emit(self, event: str, n: int = 1, **facts: Any) -> None:
        """Count *event* and tell the observers; one that raises is logged and goes on being told."""
        self.counts[event] += n
        for observer in self._observers:
            try:
                observer(event, n, facts)
            except Exception:
                log.exception("an observer of %s failed", event)
