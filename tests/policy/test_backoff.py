"""Backoff waits are bounded, grow, and follow the rule of the nearest exception class."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.errors import ConfigError
from jobrunner.policy.backoff import Backoff
from jobrunner.policy.outcomes import Cancel, Reject, Retry, Snooze

LENGTHS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30))
FACTORS = st.floats(min_value=1, max_value=1e6)
FAILURES = st.integers(1, 60) | st.integers(1, 10**400)
RANDS = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_waits_double_up_to_the_cap_without_jitter() -> None:
    backoff = Backoff(base="2s", cap="15s", jitter="none")

    assert [backoff.delay(n, 0.3).total_seconds() for n in range(1, 6)] == [2, 4, 8, 15, 15]


def test_full_jitter_takes_the_given_share_of_the_wait() -> None:
    backoff = Backoff(base="10s")

    assert [backoff.delay(n, rand).total_seconds() for n, rand in ((1, 0.0), (1, 0.5), (2, 0.5))] == [0, 5, 10]


@given(LENGTHS, FACTORS, LENGTHS, FAILURES, RANDS)
def test_full_jitter_stays_between_zero_and_the_wait_without_jitter(
    base: timedelta, factor: float, cap: timedelta, failures: int, rand: float
) -> None:
    ceiling = Backoff(base=base, factor=factor, cap=cap, jitter="none").delay(failures, rand)
    spread = Backoff(base=base, factor=factor, cap=cap).delay(failures, rand)

    assert timedelta(0) <= spread <= ceiling <= cap


@given(LENGTHS, FACTORS, LENGTHS, FAILURES)
def test_the_wait_never_shrinks_from_one_failure_to_the_next(
    base: timedelta, factor: float, cap: timedelta, failures: int
) -> None:
    backoff = Backoff(base=base, factor=factor, cap=cap, jitter="none")

    assert backoff.delay(failures, 0) <= backoff.delay(failures + 1, 0)


def test_a_base_of_zero_always_tries_again_at_once() -> None:
    assert Backoff(base=0).delay(10**400, 0.9) == timedelta(0)


def test_the_most_specific_class_decides() -> None:
    backoff = Backoff(on={Exception: Reject("?"), OSError: Retry("5s"), TimeoutError: Snooze("1m"), KeyError: Cancel()})

    assert backoff.rule_for(TimeoutError()) == Snooze("1m")
    assert backoff.rule_for(ConnectionResetError()) == Retry("5s")
    assert backoff.rule_for(ValueError()) == Reject("?")
    assert backoff.rule_for(KeyboardInterrupt()) is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": 1001}, "attempts"),
        ({"attempts": "3"}, "attempts"),
        ({"factor": 0.5}, "factor"),
        ({"factor": float("nan")}, "factor"),
        ({"base": "soon"}, "base"),
        ({"cap": -1}, "cap"),
        ({"jitter": "some"}, "jitter"),
        ({"on": {ValueError: "retry"}}, "ValueError"),
        ({"on": {"ValueError": Retry()}}, "exception classes"),
    ],
)
def test_a_policy_that_cannot_work_is_refused_where_it_is_declared(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Backoff(**options)


def test_the_policy_is_a_value_that_later_changes_of_the_rules_do_not_reach() -> None:
    rules: dict[type[BaseException], Reject | Retry] = {ValueError: Reject()}
    backoff = Backoff(on=rules)
    rules[KeyError] = Retry()

    assert backoff.rule_for(KeyError()) is None
    assert backoff == Backoff(on={ValueError: Reject()})


def test_people_read_the_policy_as_json() -> None:
    backoff = Backoff(8, "2s", cap="1h30m", on={TimeoutError: Retry("5s"), json.JSONDecodeError: Reject("not JSON")})

    assert json.loads(json.dumps(backoff.as_json())) == {
        "attempts": 8,
        "base": "2s",
        "factor": 2.0,
        "cap": "1h 30m",
        "jitter": "full",
        "on": {
            "TimeoutError": {"then": "retry", "delay": "5s", "reason": None},
            "json.decoder.JSONDecodeError": {"then": "reject", "reason": "not JSON"},
        },
    }
