"""What a runner is told at its start: numbers and lengths of time, checked once and in one place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from jobrunner.errors import ConfigError
from jobrunner.policy.durations import duration
from jobrunner.policy.models import Job, check_integer


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of one runner."""

    queues: list[str] | None
    """Sorted; None: all."""
    slots: int
    """Jobs at a time."""
    queue_slots: dict[str, int]
    """At most so many of these queues among them."""
    ttl: timedelta
    """How long it counts as alive after a heartbeat."""
    poll: float
    """Seconds between two looks when nothing wakes it."""
    grace: float
    """Seconds that running jobs get at a stop."""
    children: int
    """Processes for handlers that compute, at the most."""
    quarantine: bool
    """Whether jobs under which a runner was lost run alone."""

    @classmethod
    def checked(
        cls,
        *,
        queues: Iterable[str] | None,
        slots: int,
        queue_slots: Mapping[str, int] | None,
        lease: str | float | timedelta,
        poll: str | float | timedelta,
        grace: str | float | timedelta,
        children: int | None,
        quarantine: bool,
    ) -> Self:
        """The same as values.

        Raises:
            ConfigError, OutOfBounds, BadName: the setting that cannot work, named.
        """
        if not 1 <= slots <= 10_000:
            raise ConfigError("slots", f"must be from 1 to 10000, got {slots}")
        chosen = None if queues is None else sorted(set(queues))
        if isinstance(queues, str) or chosen == []:
            raise ConfigError("queues", "must be a list of at least one name; leave it out to take every queue")
        own = dict(queue_slots or {})
        for queue, most in own.items():
            Job("x.x", queue=queue)  # a name that no queue can have is refused here
            check_integer(f"the slots of queue {queue}", most, 1, 10_000)
        if children is not None:
            check_integer("children", children, 1, 1000)
        ttl, every = duration(lease, what="lease"), duration(poll, what="poll").total_seconds()
        if ttl < timedelta(seconds=1):
            raise ConfigError("lease", "must be at least 1s")
        if every < 0.01:
            raise ConfigError("poll", "must be at least 10ms")
        return cls(
            queues=chosen,
            slots=slots,
            queue_slots=own,
            ttl=ttl,
            poll=every,
            grace=duration(grace, what="grace").total_seconds(),
            children=min(slots, children or os.cpu_count() or 1),
            quarantine=quarantine,
        )

    @property
    def alone(self) -> int:
        """Jobs in quarantine at a time: never all slots."""
        return max(1, min(self.children, self.slots // 2))
