"""What tests of every room share and that needs no fixture: waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.005


def wait_until(predicate: Callable[[], T], deadline: float = 10, what: str = "the condition") -> T:
    """The first truthy value of *predicate*; fails the test after *deadline* seconds. The only place that sleeps."""
    ends = time.monotonic() + deadline
    while not (value := predicate()):
        assert time.monotonic() < ends, f"{what} did not come within {deadline} s (last: {value!r})"
        time.sleep(PAUSE)
    return value


async def eventually(predicate: Callable[[], T | Awaitable[T]], deadline: float = 10, what: str = "the condition") -> T:
    """`wait_until` for a test that shares its event loop with what it waits for; *predicate* may be async."""
    ends = time.monotonic() + deadline
    while True:
        found = predicate()
        value = await found if isinstance(found, Awaitable) else found
        if value:
            return value
        assert time.monotonic() < ends, f"{what} did not come within {deadline} s (last: {value!r})"
        await asyncio.sleep(PAUSE)
