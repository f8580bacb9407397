"""How a run in a child has ended: an outcome in words for the wire, and back. What comes from a child is never taken on trust."""

from __future__ import annotations

import json
from datetime import timedelta

from jobrunner.policy.models import Json, encode
from jobrunner.policy.outcomes import (
    Answer,
    Cancel,
    Decision,
    Failed,
    FinishedInPlace,
    HandedBack,
    InvalidPayload,
    Outcome,
    Reject,
    Retry,
    Snooze,
    Succeeded,
)
from jobrunner.policy.text import LIMIT, ErrorText, clean
from jobrunner.worker.wire import Broken, Ended, Reply


def as_ended(run: int, outcome: Outcome) -> Ended:
    """*outcome* as a child tells it."""
    match outcome:
        case Succeeded(value):
            return Ended(run, "succeeded", result=None if value is None else encode({"result": value}, "the result"))
        case FinishedInPlace():
            return Ended(run, "in_place")
        case Failed(error, rule):
            assert not isinstance(
                rule, Decision
            )  # what has a strategy of its own has no place where a child could find it
            return Ended(run, "failed", error=error, reply=None if rule is None else _reply(rule))
        case InvalidPayload(error):
            return Ended(run, "invalid", error=error)
        case HandedBack(reason):
            return Ended(run, "handed_back", reason=reason)
        case Retry() | Snooze() | Cancel() | Reject():
            return Ended(run, "answered", reply=_reply(outcome))
        case _:
            raise AssertionError(f"no child says {outcome}")


def outcome_of(ended: Ended) -> Outcome:
    """What *ended* says. Raises Broken when it says too little, or what cannot be."""
    try:
        match ended:
            case Ended(how="succeeded", result=None):
                return Succeeded()
            case Ended(how="succeeded", result=str(text)):
                return Succeeded(_storable(text))
            case Ended(how="in_place"):
                return FinishedInPlace()
            case Ended(how="answered", reply=Reply() as reply):
                return _answer(reply)
            case Ended(how="failed", error=ErrorText() as error, reply=reply):
                return Failed(_cleaned(error), None if reply is None else _answer(reply))
            case Ended(how="invalid", error=ErrorText() as error):
                return InvalidPayload(_cleaned(error))
            case Ended(how="handed_back", reason=str(reason)):
                return HandedBack(reason)
    except (ValueError, RecursionError) as error:
        raise Broken(f"it said what cannot be stored: {error}") from None
    raise Broken(f"it said {ended.how} and not what")


def _reply(answer: Answer) -> Reply:
    reason = None if answer.reason is None else clean(str(answer.reason))
    match answer:
        case Retry(delay):
            return Reply("retry", None if delay is None else delay.total_seconds(), reason)
        case Snooze(delay):
            return Reply("snooze", delay.total_seconds(), reason)
        case Cancel():
            return Reply("cancel", None, reason)
        case Reject():
            return Reply("reject", None, reason)


def _answer(reply: Reply) -> Answer:
    delay = None if reply.delay is None else timedelta(seconds=reply.delay)
    match reply.verb:
        case "retry":
            return Retry(delay, reply.reason)
        case "snooze":
            if delay is None:
                raise ValueError("a snooze without an end")
            return Snooze(delay, reply.reason)
        case "cancel":
            return Cancel(reply.reason)
        case "reject":
            return Reject(reply.reason)


def _storable(text: str) -> Json:
    found: object = json.loads(text)
    if not isinstance(found, dict) or found.keys() != {"result"}:
        raise ValueError("a result without a name")
    encode(found, "the result", root="result")
    value: Json = found["result"]
    return value


def _cleaned(error: ErrorText) -> ErrorText:
    return ErrorText(clean(error.type, LIMIT // 4), clean(error.message, LIMIT // 2), clean(error.traceback))
