"""Durations read what people write, exactly, and refuse the rest with a sentence."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.errors import BadDuration, ConfigError
from jobrunner.policy.durations import LONGEST, brief, duration

LENGTHS = st.timedeltas(min_value=timedelta(0), max_value=LONGEST)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        (" 1h 30m ", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("0.1s", timedelta(milliseconds=100)),
        ("0.000249s", timedelta(microseconds=249)),
        ("1799.999999s", timedelta(minutes=30) - timedelta(microseconds=1)),
        ("1799d 23h 59m 59.999999s", timedelta(days=1800) - timedelta(microseconds=1)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("0s", timedelta(0)),
        ("45", timedelta(seconds=45)),
        (45, timedelta(seconds=45)),
        (0.25, timedelta(milliseconds=250)),
        (timedelta(hours=1), timedelta(hours=1)),
    ],
)
def test_what_people_write_is_read_exactly(written: str | float | timedelta, meant: timedelta) -> None:
    assert duration(written) == meant


@pytest.mark.parametrize(
    "wrong",
    [
        "", " ", "banana", "5x", "5 m", "m5", "1m1h", "1h1h", "-5m", "+5m", "1e3s", "5M", "٥s", ".5s", "5.s", "1h,30m",
        "6000d", "9" * 60, "9" * 100_000, "1w" + " " * 100_000 + "x",
        -1, -0.001, math.nan, math.inf, -math.inf, 1e300, 10**400, True, None, [],
        timedelta(microseconds=-1), timedelta.max,
    ],
    ids=lambda wrong: repr(wrong)[:20],
)  # fmt: skip
def test_what_is_not_a_duration_is_refused_in_one_short_sentence(wrong: Any) -> None:
    with pytest.raises(BadDuration, match=r"^--delay .*; write it like") as caught:
        duration(wrong, what="--delay")

    assert isinstance(caught.value, ConfigError | ValueError)
    assert len(str(caught.value)) < 250


@given(LENGTHS)
def test_brief_text_reads_back_as_the_same_length(length: timedelta) -> None:
    assert duration(brief(length)) == length


@given(st.text(alphabet="0123456789.wdhmsu -", max_size=20))
def test_any_text_is_read_within_bounds_or_refused(text: str) -> None:
    try:
        length = duration(text)
    except BadDuration:
        return
    assert timedelta(0) <= length <= LONGEST
    assert duration(brief(length)) == length


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(minutes=90), "1h 30m"),
        (timedelta(days=14), "14d"),
        (timedelta(milliseconds=1250), "1s 250ms"),
        (timedelta(0), "0s"),
        (timedelta(minutes=-5), "-5m"),
    ],
)
def test_brief_is_what_a_person_would_write(length: timedelta, text: str) -> None:
    assert brief(length) == text
