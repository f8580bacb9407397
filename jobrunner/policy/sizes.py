"""Amounts of memory as people write them ("500MB"), to and from bytes."""

from __future__ import annotations

import re

from jobrunner.errors import ConfigError

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", re.IGNORECASE)
_LARGEST = 2**50


def size(text: str, *, what: str = "size") -> int:
    """The bytes that *text* names: a number and a unit, B kB MB GB (powers of 1000) or KiB MiB GiB (of 1024), in any case.

    Raises:
        ConfigError: it cannot be read, is nothing or beyond all memory; *what* names it there.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or (unit := _UNITS.get(found[2].lower())) is None:
        raise ConfigError(what, f"is not a size: {text!r}; write 500MB, 1.5GB or 512MiB")
    if not 1 <= (amount := float(found[1]) * unit) <= _LARGEST:
        raise ConfigError(what, f"must be from 1B to 1000000GB, got {text!r}")
    return round(amount)


def told(amount: int) -> str:
    """*amount* bytes as text, rounded to a whole MB: "83MB"."""
    return f"{round(amount / 10**6)}MB"
