"""Patterns of event types by AMQP's rules for topic exchanges: words parted by dots, `*` is one word, `#` none or more.

What jobrunner publishes itself (jobrunner.…) is matched only by a pattern whose first word is jobrunner. The same rules as
sql/functions/topic_pattern.sql, which decides for real; here they serve `dispatch` and declarations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from jobrunner.errors import BadName
from jobrunner.policy.events import SYSTEM

_PATTERN = re.compile(r"([A-Za-z0-9_-]+|\*|#)(\.([A-Za-z0-9_-]+|\*|#))*")
_BYTES = 200


def check_pattern(pattern: object) -> None:
    """Raise BadName unless *pattern* can be matched against types."""
    if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern) or len(pattern) > _BYTES:
        problem = "must be words of letters, digits, _ and -, or * or #, with dots between them: order.*"
        raise BadName("event pattern", pattern, problem)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether the type *name* is one of *patterns*."""
    return any(_compiled(pattern).fullmatch(f".{name}") for pattern in patterns)


def is_literal(pattern: str) -> bool:
    """Whether *pattern* is one type."""
    return "*" not in pattern and "#" not in pattern


@lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    words = pattern.split(".")
    guard = "" if words[0] == SYSTEM else rf"(?!\.{SYSTEM}(?:\.|$))"
    special = {"*": r"\.[^.]+", "#": r"(?:\.[^.]+)*"}
    return re.compile(guard + "".join(special.get(word, rf"\.{re.escape(word)}") for word in words))
