"""Whether every payload that one schema gives fits another that takes it: two schemas, returns the places where not.

The two are an old and a new schema of one message. What is sent is *given* by the new one and *taken* by readers of the old;
what is received is given by writers of the old one and taken by the new. Nothing is run: it is a comparison of JSON schemas
(of draft 7, as `asyncapi` writes them), and where it cannot know (two patterns) it says that they differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from jobrunner.ops.schemas import Schema, alternatives, bound_of, item_at, kind_of

_LOWER = ("minLength", "minItems", "minProperties")
_UPPER = ("maxLength", "maxItems", "maxProperties")
_SAME = ("pattern", "format", "not", "contains", "if", "then", "else", "dependencies")


class Side(Enum):
    """Which way payloads go."""

    SEND = "send"
    """From new code to old."""
    RECEIVE = "receive"
    """From old code, and from the log, to new."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One thing that does not fit."""

    path: str
    """Where in the payload: `lines[].price`; empty for the whole."""
    change: str
    """What changed, in words that go on after the path."""


class Fit:
    """Compares schemas of two documents."""

    def __init__(self, old: Schema, new: Schema, side: Side) -> None:
        self._sends = side is Side.SEND
        self._given, self._taken = (new, old) if self._sends else (old, new)
        self._known: dict[str, list[Difference]] = {}

    def differences(self, old: Any, new: Any) -> list[Difference]:
        """Where a payload of one of the two schemas does not fit the other, in order."""
        given, taken = (new, old) if self._sends else (old, new)
        return sorted(set(self._compare(given, taken)))

    def _compare(self, given: Any, taken: Any) -> list[Difference]:
        """Paths from here. A pair that is being compared already (a schema that contains itself) fits as far as it goes."""
        pair = json.dumps([given, taken], sort_keys=True)
        if pair not in self._known:
            self._known[pair] = []
            self._known[pair] = self._compare_alternatives(
                list(alternatives(self._given, given)), list(alternatives(self._taken, taken))
            )
        return self._known[pair]

    def _compare_alternatives(self, given: list[Schema], taken: list[Schema]) -> list[Difference]:
        if _is_retyped(given, taken):
            was, now = (taken, given) if self._sends else (given, taken)
            return [Difference("", f"was {_listed(was)} and is {_listed(now)}")]
        found: list[Difference] = []
        for one in given:
            fits = [(other, self._fit(one, other)) for other in taken if _is_alike(one, other)]
            if any(not differences for _, differences in fits):
                continue
            named = [differences for other, differences in fits if other.get("title") == one.get("title")]
            if len(named) == 1 or (len(fits) == 1 and len(given) <= len(taken)):
                found += named[0] if len(named) == 1 else fits[0][1]
            else:
                found.append(self._another(one))
        return found

    def _another(self, alternative: Schema) -> Difference:
        return Difference("", f"{'may now be' if self._sends else 'can no longer be'} {_shown(alternative)}")

    def _fit(self, given: Schema, taken: Schema) -> list[Difference]:
        """Two schemas without alternatives that are alike."""
        if "const" in given:
            holds = "const" in taken or _holds(given["const"], taken)
            return [] if holds else [self._another(given)]
        return [*self._bounds(given, taken), *self._object(given, taken), *self._array(given, taken)]

    # ------------------------------------------------------------------------------------------------ objects

    def _object(self, given: Schema, taken: Schema) -> Iterator[Difference]:
        has, wants = given.get("properties", {}), taken.get("properties", {})
        always, needed = set(given.get("required", ())), set(taken.get("required", ()))
        for name in sorted(needed - always):
            if self._sends:
                yield Difference(name, "is no longer always there" if name in has else "was removed")
            else:
                yield Difference(name, "is required now" if name in has else "is new and required")
        if self._sends:
            for name in sorted(wants.keys() - has.keys() - needed):
                yield Difference(name, "was removed")
        others = taken.get("additionalProperties", True)
        for name in sorted(has):
            if name in wants:
                yield from _below(name, self._compare(has[name], wants[name]))
            elif others is False:
                yield Difference(name, "is new, and no others were promised" if self._sends else "is no longer taken")
            elif others is not True:
                yield from _below(name, self._compare(has[name], others))
        # A class that says nothing of other fields writes none, and lets pass those that it reads.
        extras = given.get("additionalProperties", not self._sends)
        if extras is not False and others is False:
            yield Difference("*", "may now be there" if self._sends else "other fields are no longer taken")
        elif extras is not False and others is not True:
            yield from _below("*", self._compare(extras, others))
        if names := taken.get("propertyNames"):
            yield from _below("*", self._compare(given.get("propertyNames", {"type": "string"}), names))
        yield from self._named_by_pattern(given.get("patternProperties", {}), taken.get("patternProperties", {}))

    def _named_by_pattern(self, given: Schema, taken: Schema) -> Iterator[Difference]:
        for pattern, inner in sorted(taken.items()):
            if pattern in given:
                yield from _below("*", self._compare(given[pattern], inner))
            else:
                yield Difference("*", f"names that match {pattern} have another schema")

    # ------------------------------------------------------------------------------------------------ arrays

    def _array(self, given: Schema, taken: Schema) -> Iterator[Difference]:
        items, wanted = given.get("items", {}), taken.get("items", {})
        if not isinstance(items, list) and not isinstance(wanted, list):
            yield from _below("[]", self._compare(items, wanted))
            return
        places = max(len(one) if isinstance(one, list) else 0 for one in (items, wanted))
        for n in range(places):
            if n < given.get("maxItems", places):
                yield from _below(f"[{n}]", self._compare(item_at(given, n), item_at(taken, n)))
        if given.get("maxItems", places + 1) > places:
            yield from _below("[]", self._compare(item_at(given, places), item_at(taken, places)))

    # ------------------------------------------------------------------------------------------------ bounds

    def _bounds(self, given: Schema, taken: Schema) -> Iterator[Difference]:
        for word in _SAME:
            if word in taken and given.get(word) != taken[word]:
                yield self._changed(word, _or_none(given.get(word)), _or_none(taken[word]))
        for word in (*_LOWER, *_UPPER):
            sign = 1 if word in _LOWER else -1
            if word in taken and (word not in given or sign * given[word] < sign * taken[word]):
                yield self._changed(word, _or_none(given.get(word)), _or_none(taken[word]))
        for low in (True, False):
            limit, wanted = bound_of(given, low=low), bound_of(taken, low=low)
            if wanted is not None and (limit is None or (limit < wanted if low else limit > wanted)):
                yield self._changed(
                    "minimum" if low else "maximum", _limited(limit, low=low), _limited(wanted, low=low)
                )
        step, wanted_step = given.get("multipleOf"), taken.get("multipleOf")
        if wanted_step and (not step or step % wanted_step):
            yield self._changed("multipleOf", _or_none(step), _or_none(wanted_step))

    def _changed(self, word: str, given: str, taken: str) -> Difference:
        was, now = (taken, given) if self._sends else (given, taken)
        return Difference("", f"{word} was {was} and is {now}")


def _is_alike(given: Schema, taken: Schema) -> bool:
    """Whether it makes sense to compare them closer: their types fit, and their constants."""
    if "const" in taken:
        return "const" in given and json.dumps(given["const"]) == json.dumps(taken["const"])
    kind, wanted = kind_of(given), kind_of(taken)
    return wanted is None or kind == wanted or (kind, wanted) == ("integer", "number")


def _is_retyped(given: list[Schema], taken: list[Schema]) -> bool:
    """Whether nothing of *given* is alike to anything in *taken*, and that is not a matter of constants."""
    if any("const" in one for one in (*given, *taken)) or not given:
        return False
    return not any(_is_alike(one, other) for one in given for other in taken)


def _holds(value: Any, schema: Schema) -> bool:
    """Whether a constant is within the bounds of a schema of its type; where that cannot be told, not."""
    if any(word in schema for word in (*_SAME, "multipleOf")):
        return False
    if isinstance(value, str):
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))
    low, high = bound_of(schema, low=True), bound_of(schema, low=False)
    return (low is None or (value, False) >= low) and (high is None or (value, True) <= high)


def _below(step: str, differences: list[Difference]) -> Iterator[Difference]:
    for one in differences:
        dot = "." if one.path and not one.path.startswith("[") else ""
        yield Difference(f"{step}{dot}{one.path}", one.change)


def _shown(schema: Schema) -> str:
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    kind = kind_of(schema)
    if kind in ("object", None) and "title" in schema:
        return str(schema["title"])
    return "anything" if kind is None else "null" if kind == "null" else f"any {kind}"


def _listed(schemas: list[Schema]) -> str:
    return " or ".join(sorted({kind_of(one) or "anything" for one in schemas})) or "nothing"


def _limited(bound: tuple[float, bool] | None, *, low: bool) -> str:
    if bound is None:
        return "none"
    value, flag = bound
    sign = (">" if flag else "≥") if low else ("≤" if flag else "<")
    return f"{sign} {value:g}"


def _or_none(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
