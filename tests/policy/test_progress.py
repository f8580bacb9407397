"""Progress is arithmetic on counts and two instants, and never promises what it cannot know."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobrunner.policy.progress import Progress

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
COUNTS = st.integers(0, 10**18)


def after(seconds: float, total: int | None, processed: int) -> Progress:
    return Progress.compute(total, processed, 0, None, START, START + timedelta(seconds=seconds))


def test_half_of_the_work_in_ten_seconds_needs_ten_more() -> None:
    progress = Progress.compute(200, 100, 3, "importing", START, START + timedelta(seconds=10))

    assert progress == Progress(200, 100, 3, 50.0, 10.0, START + timedelta(seconds=20), "importing")


def test_without_a_total_there_is_a_rate_but_no_percentage_and_no_estimate() -> None:
    for total in (None, 0):
        progress = after(10, total, 100)

        assert (progress.percentage, progress.rate, progress.estimated_completion) == (None, 10.0, None)


def test_before_any_time_or_work_there_is_nothing_to_estimate_by() -> None:
    assert (after(0, 100, 5).rate, after(0, 100, 5).estimated_completion) == (None, None)
    assert (after(5, 100, 0).rate, after(5, 100, 0).estimated_completion) == (0.0, None)
    assert after(-1, 100, 5).rate is None  # the clock of the start was ahead


def test_finished_work_is_not_estimated_again() -> None:
    assert (after(5, 100, 100).percentage, after(5, 100, 100).estimated_completion) == (100.0, None)


def test_one_line_of_a_million_left_is_not_yet_a_hundred_percent() -> None:
    assert after(5, 1_000_000, 999_999).percentage == 99.9
    assert after(5, 3, 2).percentage == 66.7


def test_an_estimate_past_the_calendar_is_none() -> None:
    assert after(1e9, 10**18, 1).estimated_completion is None


@given(st.none() | COUNTS, COUNTS, st.integers(-10, 10**9))
def test_percentage_and_estimate_stay_in_range(total: int | None, processed: int, seconds: int) -> None:
    progress = after(seconds, total, processed)

    assert progress.percentage is None or 0 <= progress.percentage <= 100
    assert (progress.percentage == 100) == (bool(total) and processed >= (total or 0))
    if progress.estimated_completion is not None:
        assert progress.estimated_completion >= START + timedelta(seconds=seconds)


def test_json_has_the_seven_fields_in_order() -> None:
    shown = json.loads(json.dumps(Progress.compute(4, 1, 0, None, START, START + timedelta(seconds=1)).as_json()))

    assert list(shown.items()) == [
        ("total", 4),
        ("processed", 1),
        ("failed", 0),
        ("percentage", 25.0),
        ("rate", 1.0),
        ("estimated_completion", "2026-01-01T12:00:04+00:00"),
        ("message", None),
    ]
