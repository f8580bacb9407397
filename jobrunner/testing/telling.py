"""What a failed assertion says: what was looked for, and the nearest of what is there, with how each differs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Protocol

_SHOWN = 5  # rows of a kind


class Wanted(Protocol):
    """What was looked for."""

    def differences(self, one: Any, /) -> list[str]:
        """How a row differs from it."""

    def told(self, one: Any, /) -> str:
        """A row in one line."""

    def kind(self, one: Any, /) -> str:
        """What sort of thing a row is."""


def missing(
    wanted: Wanted,
    what: str,
    done: str,
    count: int | None,
    found: Sequence[Any],
    near: Sequence[Any],
    everything: Callable[[], Sequence[Any]],
) -> str:
    """That too few were found, or too many: *found* of *count*, among *near* of the same kind, else among *everything*."""
    lines = [_opening(what, done, count, len(found)), f"    {wanted}"]
    if count is not None and found:
        lines += [f"  {wanted.told(one)}" for one in found[:_SHOWN]] + _rest(len(found) - _SHOWN)
    others = sorted((one for one in near if wanted.differences(one)), key=lambda one: len(wanted.differences(one)))
    if others:
        lines.append(f"the nearest of {len(others)}:" if len(others) > 1 else "the nearest:")
        for one in others[:_SHOWN]:
            lines.append(f"  {wanted.told(one)}")
            lines += [f"      {text}" for text in wanted.differences(one)[:_SHOWN]]
        lines += _rest(len(others) - _SHOWN)
    elif not found:
        kinds = Counter(wanted.kind(one) for one in everything())
        lines.append(_kinds(wanted, what, done, kinds))
    return "\n".join(lines)


def unwanted(wanted: Wanted, what: str, done: str, found: Sequence[Any]) -> str:
    """That something was found where nothing should be."""
    them = f"this {what} was" if len(found) == 1 else f"{len(found)} {what}s were"
    lines = [f"{them} {done}, and none should be like", f"    {wanted}"]
    return "\n".join([*lines, *(f"  {wanted.told(one)}" for one in found[:_SHOWN]), *_rest(len(found) - _SHOWN)])


def _opening(what: str, done: str, count: int | None, found: int) -> str:
    if count is None:
        return f"no {what} was {done} like"
    said = f"{count} {what} was" if count == 1 else f"{count} {what}s were"
    return f"{said} to be {done}, and {found or 'none'} {'were' if found > 1 else 'was'}, like"


def _kinds(wanted: Wanted, what: str, done: str, kinds: Counter[str]) -> str:
    if not kinds:
        return f"nothing was {done} at all"
    near = get_close_matches(str(wanted).partition("(")[0], kinds, 1, 0.8)
    hint = f"; did you mean {near[0]}?" if near else ""
    told = ", ".join(f"{n} × {kind}" for kind, n in kinds.most_common(10))
    return f"what was {done}: {told}{hint}"


def _rest(n: int) -> list[str]:
    return [f"  … and {n} more"] if n > 0 else []
