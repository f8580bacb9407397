"""The state machine of a job on one page: takes a claimed row and how its run ended, returns what to write.

                                enqueue
          later │                  with a key │            │ now
                v                             v            v
    ┌───> scheduled ── due, with a key ──> blocked <──> ready <───────────────────┐
    │           └──────────── due ──────────────────────> │ ^                     │
    │                                               claim │ │ hand back, rescue   │ requeue (a person)
    │ retry, snooze, too new                              v │                     │
    └───────────────────────────────────────────────── running                    │
                                                       │  │  │                    │
                                    succeeded <────────┘  │  └────────> dead ─────┘
                                                          v
                                                      cancelled <── cancel, from any waiting state

`decide` draws the arrows that leave running, except rescue. Attempts, failures and crashes are counted apart:
`attempt` is the fence and grows with each claim; only `failures` meets `max_attempts`, and only what is a failure here
spends it; `crashes` counts runners that were lost under it (rescue) and processes of its own that died of it (here).

(long because: every end of a run is decided on this page)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Literal, TypeAlias, assert_never

from jobrunner.policy.backoff import Backoff
from jobrunner.policy.durations import brief
from jobrunner.policy.models import Claimed, Json
from jobrunner.policy.outcomes import (
    Answer,
    Cancel,
    CancelRequested,
    Crashed,
    Decision,
    Failed,
    FinishedInPlace,
    HandedBack,
    InvalidPayload,
    Outcome,
    Place,
    Reject,
    Retry,
    Snooze,
    Succeeded,
    TimedOut,
    TooNew,
)
from jobrunner.policy.text import ErrorText, clean

__all__ = [
    "Answer",
    "BlockedOn",
    "Cancel",
    "CancelRequested",
    "Crashed",
    "Decision",
    "Ending",
    "Failed",
    "FinishedInPlace",
    "HandedBack",
    "InvalidPayload",
    "Outcome",
    "Place",
    "Reject",
    "Retry",
    "Settlement",
    "Snooze",
    "State",
    "Succeeded",
    "TimedOut",
    "TooNew",
    "decide",
]

Ending: TypeAlias = Literal["succeeded", "retried", "snoozed", "too_new", "dead", "cancelled", "handed_back", "crashed"]
"""How a run ended, for those who count."""

_TOO_NEW_DELAY = timedelta(seconds=30)  # long enough to be cheap, short enough for a deploy that is under way
_REASON_BYTES = 512

MAX_CRASHES = 3
"""Crashes after which a job is dead; give_back_rows_v1 has the same."""


class State(StrEnum):
    """Where a job is; the stored word."""

    SCHEDULED = "scheduled"
    """Due later; with failures it waits for a retry."""
    READY = "ready"
    """Any runner that knows the task may claim it."""
    BLOCKED = "blocked"
    """Waits for something else than time: see `BlockedOn`."""
    RUNNING = "running"
    """Claimed by one runner."""
    SUCCEEDED = "succeeded"
    """Done; in the history."""
    DEAD = "dead"
    """Out of attempts, or rejected: waits for a person."""
    CANCELLED = "cancelled"
    """No longer wanted; in the history."""


class BlockedOn(StrEnum):
    """What a blocked job is behind."""

    ARRIVAL = "arrival"
    """The seat step, which gives it its place in the line of its key."""
    KEY = "key"
    """An earlier job of the same key."""
    PARENTS = "parents"
    """Jobs that must end first."""
    LIMIT = "limit"
    """A limit that is reached."""
    TASK = "task"
    """A live runner that knows its task."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one ended run writes, fenced by (job_id, attempt, the runner)."""

    job_id: int
    """Of the job."""
    attempt: int
    """Which start of it this ends."""
    state: State
    """The state after it."""
    delay: timedelta | None = None
    """Until it is due again, from now by the server's clock; exactly when scheduled."""
    failed: bool = False
    """Whether `failures` rises by one."""
    crashed: bool = False
    """Whether `crashes` rises by one."""
    reason: str | None = None
    """Why it is in that state, storable: "exhausted", or what the handler or a person said."""
    error: ErrorText | None = None
    """What went wrong, if something did."""
    outcome: str | None = None
    """What the attempts row calls it; None writes no such row (success)."""
    result: Json | None = None
    """What the handler returned, as it came: not yet encoded."""
    keyed: bool = False
    """Whether the job has a key, whose turn may have to be passed on."""
    place: Place | None = None
    """Where it waits from now on; None: where it was."""

    @property
    def ending(self) -> Ending:
        """How the run ended, in one of a few words."""
        match self.state:
            case State.SCHEDULED if self.outcome == "too_new":
                return "too_new"
            case State.SCHEDULED if self.outcome == "handed_back":
                return "handed_back"
            case State.SCHEDULED:
                return "retried" if self.failed else "snoozed"
            case State.SUCCEEDED:
                return "succeeded"
            case State.DEAD:
                return "dead"
            case State.CANCELLED:
                return "cancelled"
            case _:
                return "crashed" if self.crashed else "handed_back"


def decide(job: Claimed, outcome: Outcome, backoff: Backoff, rand: float) -> Settlement:
    """What becomes of *job* after *outcome*. Total: every outcome has an answer, and nothing here raises.

    *backoff* is the task's (how long to wait; `job.max_attempts` says how often); *rand* in [0, 1) is for its jitter.
    """
    match outcome:
        case Succeeded(value):
            return _end(job, State.SUCCEEDED, result=value)
        case FinishedInPlace():
            return _end(job, State.SUCCEEDED)
        case Retry() | Snooze() | Cancel() | Reject():
            return _answered(job, outcome, None, backoff, rand)
        case Failed(error, rule):
            if isinstance(rule, Decision):
                return _decided(job, rule, error)
            return _answered(job, rule or Retry(), error, backoff, rand)
        case TimedOut(after):
            said = ErrorText("TimeoutError", f"the handler was still running after {brief(after)}", "")
            return _failure(job, "timeout", backoff.delay(job.failures + 1, rand), None, said)
        case HandedBack(reason, delay):
            state = State.READY if delay is None else State.SCHEDULED
            return _end(job, state, outcome="handed_back", delay=delay, reason=reason)
        case Crashed(error):
            if job.crashes + 1 >= MAX_CRASHES:
                return _end(job, State.DEAD, outcome="crashed", crashed=True, reason="crashed", error=error)
            return _end(job, State.READY, outcome="crashed", crashed=True, reason="crashed", error=error)
        case TooNew(version, known):
            reason = f"payload version {version} is newer than {known}, the newest that the runner knows"
            return _end(job, State.SCHEDULED, outcome="too_new", delay=_TOO_NEW_DELAY, reason=reason)
        case InvalidPayload(error):
            return _end(job, State.DEAD, outcome="invalid_payload", reason="invalid_payload", error=error)
        case CancelRequested(reason):
            return _end(job, State.CANCELLED, outcome="cancelled", reason=reason or "requested")
        case _:
            assert_never(outcome)


def _answered(job: Claimed, answer: Answer, error: ErrorText | None, backoff: Backoff, rand: float) -> Settlement:
    """One of the four answers, given by the handler (no *error*) or by a rule about the *error* that it raised."""
    match answer:
        case Retry(delay, reason):
            wait = backoff.delay(job.failures + 1, rand) if delay is None else delay
            # The reason is the error here: a job that dies of it must still say why, when "exhausted" is its reason.
            said = error or (ErrorText("Retry", clean(str(reason)), "") if reason else None)
            return _failure(job, "failed" if error else "retried", wait, reason, said)
        case Snooze(delay, reason):
            return _end(job, State.SCHEDULED, outcome="snoozed", delay=delay, reason=reason, error=error)
        case Cancel(reason):
            return _end(job, State.CANCELLED, outcome="cancelled", reason=reason, error=error)
        case Reject(reason):
            return _end(job, State.DEAD, outcome="rejected", reason=reason or "rejected", error=error)
        case _:
            assert_never(answer)


def _decided(job: Claimed, decision: Decision, error: ErrorText) -> Settlement:
    """What a strategy of the task's own has said, whatever `max_attempts` is."""
    if decision.delay is None:
        return _end(job, State.DEAD, outcome="failed", failed=True, reason="exhausted", error=error)
    again = _end(job, State.SCHEDULED, outcome="failed", failed=True, delay=decision.delay, error=error)
    return replace(again, place=decision.place)


def _failure(job: Claimed, outcome: str, delay: timedelta, reason: str | None, error: ErrorText | None) -> Settlement:
    if job.failures + 1 >= job.max_attempts:
        return _end(job, State.DEAD, outcome=outcome, failed=True, reason="exhausted", error=error)
    return _end(job, State.SCHEDULED, outcome=outcome, failed=True, delay=delay, reason=reason, error=error)


def _end(
    job: Claimed,
    state: State,
    *,
    outcome: str | None = None,
    delay: timedelta | None = None,
    failed: bool = False,
    crashed: bool = False,
    reason: str | None = None,
    error: ErrorText | None = None,
    result: Json | None = None,
) -> Settlement:
    return Settlement(
        job_id=job.id,
        attempt=job.attempt,
        state=state,
        delay=delay,
        failed=failed,
        crashed=crashed,
        # A handler's words, or the exception it caught: one NUL in them would fail a whole batch of settlements.
        reason=clean(str(reason), _REASON_BYTES) if reason else None,
        error=error,
        outcome=outcome,
        result=result,
        keyed=job.key is not None,
    )
