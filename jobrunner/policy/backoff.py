"""When a failed job runs again: exponential, capped, with full jitter, and with rules for kinds of exceptions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, assert_never

from jobrunner.errors import ConfigError
from jobrunner.policy.durations import brief, duration
from jobrunner.policy.models import MAX_ATTEMPTS, Claimed, Json
from jobrunner.policy.outcomes import Answer, Cancel, Decision, Reject, Retry, Snooze
from jobrunner.policy.text import type_name


@dataclass(frozen=True, slots=True, init=False)
class Backoff:
    """How often and when a task is tried again.

    The n-th failure waits up to `min(cap, base * factor ** (n - 1))`: all of it with jitter "none", a uniform share of
    it with "full", so that jobs that failed together do not come back together (Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).

    Raises:
        ConfigError: a value that cannot work, named.
    """

    attempts: int
    """Failures after which the job is dead, 1 to 1000."""
    base: timedelta
    """The wait after the first failure, before jitter."""
    factor: float
    """Growth from one failure to the next, >= 1."""
    cap: timedelta
    """No wait is longer."""
    jitter: Literal["full", "none"]
    """Whether waits are spread."""
    on: Mapping[type[BaseException], Answer]
    """What an exception means; the most specific class decides."""

    def __init__(
        self,
        attempts: int = 10,
        base: str | float | timedelta = "1s",
        factor: float = 2.0,
        cap: str | float | timedelta = "1h",
        jitter: Literal["full", "none"] = "full",
        on: Mapping[type[BaseException], Answer] | None = None,
    ) -> None:
        _check_numbers(attempts, factor, jitter)
        rules = dict(on or {})
        for kind, rule in rules.items():
            _check_rule(kind, rule)
        object.__setattr__(self, "attempts", attempts)
        object.__setattr__(self, "base", duration(base, what="the base of Backoff"))
        object.__setattr__(self, "factor", float(factor))
        object.__setattr__(self, "cap", duration(cap, what="the cap of Backoff"))
        object.__setattr__(self, "jitter", jitter)
        object.__setattr__(self, "on", rules)

    def delay(self, failures: int, rand: float) -> timedelta:
        """How long to wait after the failure number *failures* (>= 1, this one counted), at most `cap`.

        *rand*: in [0, 1), the share of the wait that full jitter takes; not used without jitter.
        """
        try:
            wanted = self.base.total_seconds() * self.factor ** (failures - 1)
        except OverflowError:  # float ** int past 1e308
            wanted = math.inf if self.base else 0.0
        ceiling = min(self.cap, timedelta(seconds=wanted)) if wanted < self.cap.total_seconds() else self.cap
        return ceiling if self.jitter == "none" else ceiling * rand

    def rule_for(self, error: BaseException, job: Claimed | None = None) -> Answer | Decision | None:
        """What *error* of a run of *job* means by `on`: the rule of its nearest class in method resolution order, or None."""
        for cls in type(error).__mro__:
            if (rule := self.on.get(cls)) is not None:
                return rule
        return None

    def as_json(self) -> dict[str, Json]:
        """The policy as the `tasks` table shows it to people: durations as text, exceptions by qualified name."""
        return {
            "attempts": self.attempts,
            "base": brief(self.base),
            "factor": self.factor,
            "cap": brief(self.cap),
            "jitter": self.jitter,
            "on": {type_name(kind): _rule_json(rule) for kind, rule in self.on.items()},
        }


def _check_numbers(attempts: object, factor: object, jitter: object) -> None:
    if not isinstance(attempts, int) or not 1 <= attempts <= MAX_ATTEMPTS:
        raise ConfigError(
            what="the attempts of Backoff", problem=f"must be a whole number from 1 to 1000, got {attempts!r}"
        )
    if not isinstance(factor, int | float) or not 1 <= factor <= 1e6:
        raise ConfigError(what="the factor of Backoff", problem=f"must be a number from 1 to 1,000,000, got {factor!r}")
    if jitter not in ("full", "none"):
        raise ConfigError(what="the jitter of Backoff", problem=f'must be "full" or "none", got {jitter!r}')


def _check_rule(kind: object, rule: object) -> None:
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise ConfigError(what="Backoff(on=…)", problem=f"needs exception classes as keys, got {kind!r}")
    if not isinstance(rule, Answer):
        raise ConfigError(
            what="Backoff(on=…)", problem=f"needs Retry, Snooze, Cancel or Reject for {type_name(kind)}, got {rule!r}"
        )


def _rule_json(rule: Answer) -> Json:
    match rule:
        case Retry(delay, reason):
            return {"then": "retry", "delay": brief(delay) if delay is not None else None, "reason": reason}
        case Snooze(delay, reason):
            return {"then": "snooze", "delay": brief(delay), "reason": reason}
        case Cancel(reason):
            return {"then": "cancel", "reason": reason}
        case Reject(reason):
            return {"then": "reject", "reason": reason}
        case _:
            assert_never(rule)
