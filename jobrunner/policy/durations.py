"""Lengths of time as people write them ("1h30m"), to and from `timedelta`."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from jobrunner.errors import BadDuration

LONGEST = timedelta(days=5 * 360)
"""The longest delay, backoff or timeout: five years, as PostgreSQL compares intervals (a month has 30 days there)."""

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
_MICROSECOND = _UNITS["us"]
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SECONDS = re.compile(_NUMBER)
_PARTS = re.compile("".join(rf"(?:({_NUMBER}){unit}\s*)?" for unit in _UNITS))


def duration(value: str | float | timedelta, *, what: str = "duration") -> timedelta:
    """The length of time that *value* names, between zero and `LONGEST`, in whole microseconds.

    Numbers, also in text, are seconds. Text has units from large to small, each at most once: `w d h m s ms us`
    ("250ms", "1h30m", "1.5h", "2d 6h").

    Raises:
        BadDuration: it cannot be read, is negative, not finite or over `LONGEST`; *what* names it there.
    """
    match value:
        case bool():
            raise BadDuration(what, value, "must be a length of time")
        case timedelta():
            length = value
        case int() | float():
            length = _from_seconds(value, what)
        case str():
            length = _from_text(value, what)
        case _:  # callers without a type checker: settings files, JSON
            raise BadDuration(what, value, "must be a length of time")
    if length < timedelta(0):
        raise BadDuration(what, value, "must not be negative")
    if length > LONGEST:
        raise BadDuration(what, value, "must not be over 5 years (1800d)")
    return length


def _from_seconds(seconds: float, what: str) -> timedelta:
    try:
        if not math.isfinite(seconds):
            raise BadDuration(what, seconds, "must be finite")
        return timedelta(seconds=seconds)
    except OverflowError:
        raise BadDuration(what, seconds, "must be between 0 and 5 years") from None


def _from_text(text: str, what: str) -> timedelta:
    written = text.strip()
    if not written:
        raise BadDuration(what, text, "must be a length of time")
    if _SECONDS.fullmatch(written):
        numbers = [(written, _UNITS["s"])]
    elif found := _PARTS.fullmatch(written):
        numbers = [(n, unit) for n, unit in zip(found.groups(), _UNITS.values(), strict=True) if n]
    else:
        raise BadDuration(what, text, "is not a length of time")
    # Exact in floats: LONGEST has fewer than 2 ** 48 microseconds; what has more is refused below.
    microseconds = sum(float(number) * (unit // _MICROSECOND) for number, unit in numbers)
    if microseconds > LONGEST // _MICROSECOND:
        raise BadDuration(what, text, "must not be over 5 years (1800d)")
    return timedelta(microseconds=round(microseconds))


def brief(length: timedelta) -> str:
    """*length* as text, "1h 30m", exact to the microsecond: `duration(brief(x)) == x`."""
    if length < timedelta(0):  # not a duration, but the age of something that is due in the future
        return f"-{brief(-length)}"
    parts: list[str] = []
    for name, unit in _UNITS.items():
        if name == "w":  # "7d" and "14d" read better than "1w" and "2w" beside days
            continue
        count, length = divmod(length, unit)
        if count:
            parts.append(f"{count}{name}")
    return " ".join(parts) or "0s"
