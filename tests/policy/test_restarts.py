"""A crash loop waits longer and longer, and a steady life ends it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobrunner.policy.restarts import STEADY, Restarts

YOUNG = timedelta(seconds=1)


def after(*lives: timedelta) -> Restarts:
    found = Restarts()
    for lived in lives:
        found = found.after(lived)
    return found


def test_pauses_grow_to_30_s_and_the_first_death_waits_for_none() -> None:
    pauses = [after(*[YOUNG] * n).pause(0).total_seconds() for n in range(9)]

    assert pauses == [0, 0, 1, 2, 4, 8, 16, 30, 30]


def test_a_steady_life_ends_a_crash_loop() -> None:
    assert after(*[YOUNG] * 6, STEADY) == Restarts()
    assert after(*[YOUNG] * 6, STEADY, YOUNG).pause(0) == timedelta()


@given(st.integers(0, 2000), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_up_to_a_half(young: int, rand: float) -> None:
    whole = Restarts(young).pause(0)

    assert whole / 2 <= Restarts(young).pause(rand) <= whole <= timedelta(seconds=30)
