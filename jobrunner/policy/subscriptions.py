"""What a subscription is declared to be: the value that registration compares with the table, and its differences in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from jobrunner.errors import ConfigError
from jobrunner.policy.backoff import Backoff
from jobrunner.policy.models import Job, Json
from jobrunner.policy.payload import encode
from jobrunner.policy.topics import check_pattern

Start: TypeAlias = Literal["now", "beginning"] | datetime | int
"""Where a new subscription begins: with what is recorded from now on, the whole log, an instant, or a position, itself included."""

OnDead: TypeAlias = Literal["skip", "block_key", "pause"]
"""What a dead delivery means: the next ones go on · those of its key wait for a person · the whole subscription does."""

OnLag: TypeAlias = Literal["hold", "release"]
"""What retention does with an old day that the subscription still needs: keep it · drop it, and its deliveries with it."""

Difference: TypeAlias = Mapping[str, Mapping[str, Json]]
"""By field: `is` in the table, `wanted` by the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A subscription as the code has it.

    Raises:
        BadName, OutOfBounds: as for a job; a pattern that cannot be matched.
        ConfigError: what cannot be right together.
    """

    name: str
    """Also the task of its deliveries."""
    app: str
    """Whose code it is."""
    mode: Literal["queue", "stream"]
    """One job a delivery, or batches from the log."""
    types: tuple[str, ...]
    """Patterns of event types."""
    match: Mapping[str, Json] | None
    """What the headers of an event must contain."""
    queue: str
    """Where its deliveries wait."""
    priority: int
    """Larger runs first."""
    retry: Backoff
    """How often and when a delivery is tried again."""
    ordered: bool
    """One at a time per key, in the order of the log."""
    on_dead: OnDead
    """What a dead delivery means."""
    replay: bool
    """Whether the handler takes replays."""
    on_lag: OnLag
    """What retention does when it is behind."""
    start: Start
    """Where it begins, when it is new."""

    def __post_init__(self) -> None:
        what = f"subscription {self.name}"
        Job(self.name, queue=self.queue, priority=self.priority)
        if not self.types:
            raise ConfigError(what, "names no event: give classes or patterns, like OrderPaid or 'order.*'")
        for pattern in self.types:
            check_pattern(pattern)
        if self.match is not None:
            encode(self.match, self.name, root="match")
        if self.on_dead not in ("skip", "block_key", "pause"):
            raise ConfigError(what, f'needs on_dead "skip", "block_key" or "pause", got {self.on_dead!r}')
        if self.on_dead == "block_key" and not self.ordered:
            raise ConfigError(what, 'has on_dead="block_key", which means something only with ordered=True')
        if self.on_lag not in ("hold", "release"):
            raise ConfigError(what, f'needs on_lag "hold" or "release", got {self.on_lag!r}')
        _check_start(what, self.start)

    def as_json(self) -> dict[str, Json]:
        """What the table is told, and compared with; see sql/functions/subscription_spec.sql."""
        return {
            "mode": self.mode,
            "types": list(self.types),
            "match": None if self.match is None else dict(self.match),
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.retry.attempts,
            "retry": self.retry.as_json(),
            "ordered": self.ordered,
            "on_dead": self.on_dead,
            "replay": self.replay,
            "on_lag": self.on_lag,
        }


def _check_start(what: str, start: Any) -> None:
    match start:
        case "now" | "beginning":
            return
        case datetime() if start.utcoffset() is not None:
            return
        case int() if not isinstance(start, bool) and start >= 1:
            return
    raise ConfigError(
        what, f'needs start "now", "beginning", a datetime with a time zone or a position from 1 on, got {start!r}'
    )


def differences(found: Difference) -> str:
    """*found* in words: "queue is mail, the code says post; types …"."""
    return "; ".join(
        f"{name} is {_shown(pair['is'])}, the code says {_shown(pair['wanted'])}"
        for name, pair in sorted(found.items())
    )


def _shown(value: Json) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else encode({"": value}, "")[4:-1]
