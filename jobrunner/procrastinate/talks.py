"""A named query of procrastinate as a talk with the database: statements go out, rows come back, its answer is returned.

Written once as generators, so that the sync and the async connector drive the same ones. A talk yields a `Say` and gets the
rows, or yields seconds to wait; an error of a statement is thrown into it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, LiteralString, NamedTuple, TypeAlias

import psycopg

Row: TypeAlias = dict[str, Any]
Dumps: TypeAlias = Callable[[Any], str | bytes]


class Say(NamedTuple):
    """One statement, which is one transaction unless the caller brought his own."""

    statement: LiteralString
    params: dict[str, Any]


Talk: TypeAlias = Generator[Say | float, list[Row], list[Row]]

_TRIES = 40
_GAP, _LONGEST_GAP = 0.005, 0.25


def ask(statement: LiteralString, **params: Any) -> Talk:
    """One statement; its rows are the answer."""
    return (yield Say(statement, params))


def patiently(once: Callable[[], Generator[Say | float, list[Row], str]]) -> Generator[Say | float, list[Row], str]:
    """The verdict of *once*, again while someone holds the row that it needs, or its answer was lost: about 8 s."""
    gap = _GAP
    for left in reversed(range(_TRIES)):
        try:
            verdict = yield from once()
            if verdict != "busy" or not left:
                return verdict
        except psycopg.OperationalError:  # a lock, a deadlock, a lost connection: the verdict knows what it had done
            if not left:
                raise
        yield gap
        gap = min(gap * 1.5, _LONGEST_GAP)
    raise AssertionError
