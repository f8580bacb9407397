"""Query parameters: takes those of a request, returns values; what cannot be is a problem that names the parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from starlette.requests import Request

from jobrunner.errors import BadDuration
from jobrunner.ops.http.problems import Problem
from jobrunner.policy.durations import duration

T = TypeVar("T")
Read: TypeAlias = Callable[[str], Any]

LIMIT = 200
"""The longest page."""

_LARGEST = 2**63 - 1
_BYTES = 512


def read(request: Request, wanted: Mapping[str, Read]) -> dict[str, Any]:
    """The parameters by name, None for one that is not there or empty.

    Raises:
        Problem: 400, with the parameter's name in `parameter`.
    """
    found: dict[str, Any] = dict.fromkeys(wanted)
    given = request.query_params.multi_items()
    for name, text in given:
        if name not in wanted:
            known = f"it takes {', '.join(sorted(wanted))}" if wanted else "it takes none"
            raise bad(name, f"there is no parameter {name[:80]!r}; {known}")
        if sum(other == name for other, _ in given) > 1:
            raise bad(name, f"{name} is given twice")
        if not text:
            continue
        try:
            found[name] = wanted[name](text)
        except ValueError as error:
            raise bad(name, f"{name} {error}") from None
    return found


def bad(name: str, detail: str) -> Problem:
    """The problem of one parameter."""
    return Problem(400, detail, parameter=name[:80])


def text(given: str) -> str:
    """A name as PostgreSQL can hold it."""
    if len(given.encode()) > _BYTES or "\0" in given:
        raise ValueError(f"must be text of at most {_BYTES} bytes without NUL")
    return given


def identifier(given: str) -> int:
    """The id of something."""
    if not (given.isascii() and given.isdecimal() and len(given) < 20 and 1 <= int(given) <= _LARGEST):
        raise ValueError(f"must be an id, a whole number from 1 on, got {given[:40]!r}")
    return int(given)


def limit(given: str) -> int:
    """How long a page may be."""
    if not (given.isascii() and given.isdecimal() and len(given) < 10 and 1 <= int(given) <= LIMIT):
        raise ValueError(f"must be a whole number from 1 to {LIMIT}, got {given[:40]!r}")
    return int(given)


def since(given: str) -> Any:
    """For how long back."""
    try:
        return duration(given, what="since")
    except BadDuration as error:
        raise ValueError(str(error).removeprefix("since ")) from None


def flag(given: str) -> bool:
    """Yes or no."""
    if given not in ("true", "false"):
        raise ValueError(f"must be true or false, got {given[:40]!r}")
    return given == "true"


def one_of(*words: str) -> Read:
    """One of a few words."""

    def choose(given: str) -> str:
        if given not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}, got {given[:40]!r}")
        return given

    return choose
