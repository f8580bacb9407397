"""`decide` has an answer for every way in which a run can end, and the answers never contradict themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.policy import lifecycle
from jobrunner.policy.backoff import Backoff
from jobrunner.policy.lifecycle import (
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
    Settlement,
    Snooze,
    State,
    Succeeded,
    TimedOut,
    TooNew,
    decide,
)
from jobrunner.policy.models import Claimed
from jobrunner.policy.text import ErrorText

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Claimed(7, "shop.pay", 1, "default", 0, 1, 3, 2, 0, 10, None, "{}", None, NOW, NOW, NOW)
BOOM = ErrorText("ValueError", "boom", "Traceback …")
STEADY = Backoff(base="1s", factor=2, cap="1h", jitter="none")

LENGTHS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1000))
WORDS = st.text(st.characters(exclude_categories=()), max_size=20) | st.just("\0\ud800" * 400)
REASONS = st.none() | WORDS
ERRORS = st.builds(ErrorText, st.just("E"), st.text(max_size=5), st.just(""))
ANSWERS = st.one_of(
    st.builds(Retry, st.none() | LENGTHS, REASONS),
    st.builds(Snooze, LENGTHS, REASONS),
    st.builds(Cancel, REASONS),
    st.builds(Reject, REASONS),
)
DECISIONS = st.builds(Decision, st.none() | LENGTHS, st.none() | st.builds(Place, queue=st.none() | st.just("q")))
OUTCOMES: dict[type, st.SearchStrategy[Outcome]] = {
    Succeeded: st.builds(Succeeded, st.none() | st.integers()),
    FinishedInPlace: st.builds(FinishedInPlace),
    Retry: st.builds(Retry, st.none() | LENGTHS, REASONS),
    Snooze: st.builds(Snooze, LENGTHS, REASONS),
    Cancel: st.builds(Cancel, REASONS),
    Reject: st.builds(Reject, REASONS),
    Failed: st.builds(Failed, ERRORS, st.none() | ANSWERS | DECISIONS),
    TimedOut: st.builds(TimedOut, LENGTHS),
    HandedBack: st.builds(HandedBack, WORDS, st.none() | LENGTHS),
    Crashed: st.builds(Crashed, ERRORS),
    TooNew: st.builds(TooNew, st.integers(2, 9), st.just(1)),
    InvalidPayload: st.builds(InvalidPayload, ERRORS),
    CancelRequested: st.builds(CancelRequested, REASONS),
}
RANDS = st.floats(min_value=0, max_value=1, exclude_max=True)


@st.composite
def jobs(draw: st.DrawFn) -> Claimed:
    max_attempts = draw(st.integers(1, 5))
    failures = draw(st.integers(0, max_attempts - 1))
    attempt = failures + draw(st.integers(1, 10))
    key = draw(st.none() | st.just("k"))
    crashes = draw(st.integers(0, 2))
    return replace(JOB, max_attempts=max_attempts, failures=failures, attempt=attempt, key=key, crashes=crashes)


def is_failure(outcome: Outcome) -> bool:
    return isinstance(outcome, TimedOut | Retry) or (isinstance(outcome, Failed) and is_retry(outcome.rule))


def is_retry(rule: object) -> bool:
    return rule is None or isinstance(rule, Retry | Decision)


def test_every_outcome_is_drawn_in_these_properties() -> None:
    assert set(OUTCOMES) == set(get_args(Outcome))


@given(jobs(), st.one_of(*OUTCOMES.values()), RANDS)
def test_every_settlement_is_consistent(job: Claimed, outcome: Outcome, rand: float) -> None:
    done = decide(job, outcome, Backoff(), rand)
    rule = outcome.rule if isinstance(outcome, Failed) else outcome

    assert (job.id, job.attempt, job.key is not None) == (done.job_id, done.attempt, done.keyed)
    assert done.failed == is_failure(outcome)
    if isinstance(rule, Decision):
        exhausted = rule.delay is None
        assert done.place == (None if exhausted else rule.place)
    else:
        exhausted = done.failed and job.failures + 1 >= job.max_attempts
        assert done.place is None
    crashed = done.crashed and job.crashes + 1 >= 3
    assert done.crashed == isinstance(outcome, Crashed)
    assert (done.state is State.DEAD) == (exhausted or crashed or isinstance(rule, Reject | InvalidPayload))
    assert (done.reason == "exhausted") or not exhausted
    assert (done.delay is not None) == (done.state is State.SCHEDULED)
    assert done.delay is None or done.delay >= timedelta(0)
    assert (done.outcome is None) == (done.state is State.SUCCEEDED)
    assert done.result is None or isinstance(outcome, Succeeded)
    assert done.state not in (State.RUNNING, State.BLOCKED)
    assert job.failures + done.failed <= job.max_attempts  # the CHECK of the table


@given(jobs(), st.one_of(*OUTCOMES.values()), RANDS)
def test_every_reason_can_be_stored(job: Claimed, outcome: Outcome, rand: float) -> None:
    reason = decide(job, outcome, Backoff(), rand).reason or ""

    assert "\0" not in reason
    assert len(reason.encode()) <= 512


@given(jobs(), OUTCOMES[Failed] | OUTCOMES[InvalidPayload] | OUTCOMES[Crashed], RANDS)
def test_no_error_is_ever_dropped(job: Claimed, outcome: Failed | InvalidPayload | Crashed, rand: float) -> None:
    assert decide(job, outcome, Backoff(), rand).error == outcome.error


def after(outcome: Outcome, job: Claimed = JOB) -> Settlement:
    return decide(job, outcome, STEADY, 0.5)


@pytest.mark.parametrize(
    ("outcome", "state", "delay", "failed", "reason", "called"),
    [
        (Succeeded({"paid": True}), State.SUCCEEDED, None, False, None, None),
        (FinishedInPlace(), State.SUCCEEDED, None, False, None, None),
        (Failed(BOOM), State.SCHEDULED, 4, True, None, "failed"),
        (Failed(BOOM, Retry()), State.SCHEDULED, 4, True, None, "failed"),
        (Failed(BOOM, Retry("9s", "busy")), State.SCHEDULED, 9, True, "busy", "failed"),
        (Failed(BOOM, Snooze("9s", "closed")), State.SCHEDULED, 9, False, "closed", "snoozed"),
        (Failed(BOOM, Cancel("gone")), State.CANCELLED, None, False, "gone", "cancelled"),
        (Failed(BOOM, Reject()), State.DEAD, None, False, "rejected", "rejected"),
        (Failed(BOOM, Decision(timedelta(seconds=9))), State.SCHEDULED, 9, True, None, "failed"),
        (Failed(BOOM, Decision(None)), State.DEAD, None, True, "exhausted", "failed"),
        (TimedOut(timedelta(seconds=30)), State.SCHEDULED, 4, True, None, "timeout"),
        (Retry(), State.SCHEDULED, 4, True, None, "retried"),
        (Retry("0s"), State.SCHEDULED, 0, True, None, "retried"),
        (Retry("9s", "busy"), State.SCHEDULED, 9, True, "busy", "retried"),
        (Snooze("9s"), State.SCHEDULED, 9, False, None, "snoozed"),
        (Cancel("gone"), State.CANCELLED, None, False, "gone", "cancelled"),
        (Reject("no such card"), State.DEAD, None, False, "no such card", "rejected"),
        (HandedBack("shutdown"), State.READY, None, False, "shutdown", "handed_back"),
        (HandedBack("busy", timedelta(seconds=3)), State.SCHEDULED, 3, False, "busy", "handed_back"),
        (Crashed(BOOM), State.READY, None, False, "crashed", "crashed"),
        (TooNew(3, 2), State.SCHEDULED, 30, False, "payload version 3 is newer than 2", "too_new"),
        (InvalidPayload(BOOM), State.DEAD, None, False, "invalid_payload", "invalid_payload"),
        (CancelRequested(), State.CANCELLED, None, False, "requested", "cancelled"),
        (CancelRequested("wrong order"), State.CANCELLED, None, False, "wrong order", "cancelled"),
    ],
    ids=str,
)
def test_each_outcome_has_its_settlement(
    outcome: Outcome, state: State, delay: int | None, failed: bool, reason: str | None, called: str | None
) -> None:
    done = after(outcome)

    assert (state, failed, called) == (done.state, done.failed, done.outcome)
    assert (None if delay is None else timedelta(seconds=delay)) == done.delay
    assert (done.reason or "").startswith(reason or "")
    assert (done.reason is None) == (reason is None)


def test_the_result_is_what_the_handler_returned() -> None:
    assert after(Succeeded([1, None])).result == [1, None]
    assert after(FinishedInPlace()).result is None


@pytest.mark.parametrize("outcome", [Failed(BOOM), TimedOut(timedelta(1)), Retry("5s")], ids=str)
def test_the_last_failure_of_the_budget_makes_a_job_dead_and_the_one_before_does_not(outcome: Outcome) -> None:
    assert after(outcome, replace(JOB, failures=8, max_attempts=10)).state is State.SCHEDULED

    dead = after(outcome, replace(JOB, failures=9, max_attempts=10))
    assert (dead.state, dead.reason, dead.failed) == (State.DEAD, "exhausted", True)


def test_a_decision_stands_above_the_budget_and_says_where() -> None:
    again = after(Failed(BOOM, Decision(timedelta(0), Place(key="k"))), replace(JOB, failures=9, max_attempts=10))

    assert (again.state, again.failed, again.place) == (State.SCHEDULED, True, Place(key="k"))


def test_starts_that_were_no_failures_do_not_spend_the_budget() -> None:
    """attempt is the fence: a job that snoozed a thousand times has all its failures left."""
    assert after(Failed(BOOM), replace(JOB, attempt=1000, failures=0)).state is State.SCHEDULED


def test_snooze_stays_possible_on_the_last_attempt() -> None:
    assert after(Snooze("1s"), replace(JOB, failures=9, max_attempts=10)).state is State.SCHEDULED


def test_a_timeout_and_a_refused_retry_still_say_what_happened() -> None:
    last = replace(JOB, failures=9)

    assert after(TimedOut(timedelta(seconds=90)), last).error == ErrorText(
        "TimeoutError", "the handler was still running after 1m 30s", ""
    )
    assert after(Retry(reason="bank is closed"), last).error == ErrorText("Retry", "bank is closed", "")


def test_a_reason_that_is_an_exception_is_told_as_its_text() -> None:
    assert after(Reject(ValueError("no\0pe"))).reason == "nope"  # type: ignore[arg-type]


def test_everything_that_a_caller_names_comes_from_one_module() -> None:
    assert {cls.__name__ for cls in get_args(Outcome)} <= set(lifecycle.__all__)


def test_the_third_crash_is_the_last_whatever_the_attempts() -> None:
    second, third = (after(Crashed(BOOM), replace(JOB, crashes=crashes)) for crashes in (1, 2))

    assert (second.state, second.crashed, second.failed) == (State.READY, True, False)
    assert (third.state, third.crashed, third.reason, third.error) == (State.DEAD, True, "crashed", BOOM)


def test_a_crash_and_a_hand_back_are_counted_as_such_whenever_they_run_again() -> None:
    endings = [after(end).ending for end in (Crashed(BOOM), HandedBack("x"), HandedBack("x", timedelta(seconds=1)))]

    assert endings == ["crashed", "handed_back", "handed_back"]
    assert after(Crashed(BOOM), replace(JOB, crashes=2)).ending == "dead"
