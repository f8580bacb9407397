"""How one run of a job can end: what a handler may answer, and what the executor finds out by itself.

A handler returns a value (success) or one of `Retry`, `Snooze`, `Cancel`, `Reject`; an exception is a failure, which
the task's `Backoff.on` may turn into one of the four. `lifecycle.decide` turns an outcome into a settlement.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from jobrunner.policy.durations import duration
from jobrunner.policy.payload import Json
from jobrunner.policy.text import ErrorText


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """This run failed, try again: after *delay*, or as the task's backoff says. Spends one of `max_attempts`."""

    delay: timedelta | None
    """None leaves it to the backoff."""
    reason: str | None
    """For the person who reads the attempt."""

    def __init__(self, delay: str | float | timedelta | None = None, reason: str | None = None) -> None:
        object.__setattr__(self, "delay", None if delay is None else duration(delay, what="the delay of Retry"))
        object.__setattr__(self, "reason", reason)


@dataclass(frozen=True, slots=True, init=False)
class Snooze:
    """Not now: run again after *delay*. Spends nothing, so it may go on for ever."""

    delay: timedelta
    """From the end of this run, by the server's clock."""
    reason: str | None
    """For the person who reads the attempt."""

    def __init__(self, delay: str | float | timedelta, reason: str | None = None) -> None:
        object.__setattr__(self, "delay", duration(delay, what="the delay of Snooze"))
        object.__setattr__(self, "reason", reason)


@dataclass(frozen=True, slots=True)
class Cancel:
    """The work is no longer wanted: the job ends as cancelled."""

    reason: str | None = None
    """For the person who reads the job."""


@dataclass(frozen=True, slots=True)
class Reject:
    """It will never work: the job is dead at once and waits for a person."""

    reason: str | None = None
    """For that person."""


Answer: TypeAlias = Retry | Snooze | Cancel | Reject
"""What a handler may return besides a value, and what `Backoff.on` may make of an exception."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job waits when it is tried again; None leaves it as it was."""

    queue: str | None = None
    """1 to 200 bytes."""
    priority: int | None = None
    """Larger runs first."""
    key: str | None = None
    """It gives the old one up, and takes its place in the line of this one."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a strategy of the task's own has decided of a failure: how often is its business, not that of `max_attempts`."""

    delay: timedelta | None
    """Until the next try; None: the job is dead."""
    place: Place | None = None
    """Where it waits for that; None: where it was."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned."""

    value: Json | None = None
    """What it returned, stored as the job's result unless None."""


@dataclass(frozen=True, slots=True)
class FinishedInPlace:
    """`ctx.transaction()` has ended the job together with the handler's own writes."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised."""

    error: ErrorText
    """What it raised."""
    rule: Answer | Decision | None = None
    """What the task's `Backoff.on`, or a strategy of its own, makes of it."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The handler was still running at its timeout. A failure."""

    after: timedelta
    """The timeout."""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The run did not happen or was stopped by shutdown: ready again at once, or after *delay*; nothing spent."""

    reason: str
    """Why: "shutdown", "not started"."""
    delay: timedelta | None = None
    """For one that would only be claimed again: until then."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process that ran it, and nothing else, died of it. No failure: ready again, dead at the third crash."""

    error: ErrorText
    """How the process ended."""


@dataclass(frozen=True, slots=True)
class TooNew:
    """The payload is of a newer version than this code: waits for a newer runner, nothing spent."""

    version: int
    """Of the payload."""
    known: int
    """The newest that this runner knows."""


@dataclass(frozen=True, slots=True)
class InvalidPayload:
    """The payload does not validate against the code of its own version: dead at once, a retry cannot mend it."""

    error: ErrorText
    """What does not fit."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person cancelled the job while it ran."""

    reason: str | None = None
    """What the person said."""


Outcome: TypeAlias = (
    Succeeded
    | FinishedInPlace
    | Answer
    | Failed
    | TimedOut
    | HandedBack
    | Crashed
    | TooNew
    | InvalidPayload
    | CancelRequested
)
"""Every way in which a run can end; `decide` is total over it."""
