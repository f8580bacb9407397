"""JSON schemas of draft 7, read so that two can be compared: references followed, alternatives one by one, bounds as values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote

Schema: TypeAlias = dict[str, Any]
"""A schema that is an object, or a document of schemas."""

_NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"})
_ALTERNATIVES = ("anyOf", "oneOf")
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def follow(document: Schema, reference: str) -> Any:
    """What a reference inside *document* names.

    Raises:
        LookupError: nothing, or it names another document.
    """
    root, *steps = reference.split("/")
    found: Any = document
    for step in steps:
        found = found[unquote(step).replace("~1", "/").replace("~0", "~")]
    if root != "#":
        raise LookupError(reference)
    return found


def alternatives(document: Schema, schema: Any) -> Iterator[Schema]:
    """*schema* in parts without references, alternatives, enumerations and lists of types; together they are the same."""
    plain = _plain(document, schema)
    if plain is None:
        return
    for word in _ALTERNATIVES:
        if word in plain:
            beside = {name: value for name, value in plain.items() if name != word and name not in _NOTES}
            for option in plain[word]:
                yield from alternatives(document, {**beside, "allOf": [option]})
            return
    if "enum" in plain:
        values = plain.pop("enum")
        yield from ({**plain, "const": value} for value in values)
    elif isinstance(plain.get("type"), list):
        yield from ({**plain, "type": kind} for kind in plain["type"])
    else:
        yield plain


def _plain(document: Schema, schema: Any) -> Schema | None:
    """*schema* with what it refers to and all of allOf in one; None for the one that nothing fits."""
    if not isinstance(schema, dict):
        return {} if schema else None
    made = {word: value for word, value in schema.items() if word not in ("$ref", "allOf")}
    parts = [follow(document, schema["$ref"])] if "$ref" in schema else []
    for part in (*parts, *schema.get("allOf", ())):
        inner = _plain(document, part)
        if inner is None:
            return None
        for word, value in inner.items():
            if word == "properties":
                made[word] = {**value, **made.get(word, {})}
            elif word == "required":
                made[word] = sorted({*value, *made.get(word, ())})
            elif word not in made or word == "title":  # the title of a class, not of the field that has it
                made[word] = value
    return made


def kind_of(schema: Schema) -> str | None:
    """The type of one alternative; None for any."""
    if "const" in schema:
        return "null" if schema["const"] is None else _KINDS[type(schema["const"])]
    kind = schema.get("type")
    return kind if isinstance(kind, str) else None


def bound_of(schema: Schema, *, low: bool) -> tuple[float, bool] | None:
    """The bound of a number; of two that are equal the larger pair is the stricter lower and the smaller the stricter upper."""
    plain = schema.get("minimum" if low else "maximum")
    strict = schema.get("exclusiveMinimum" if low else "exclusiveMaximum")
    bounds: list[tuple[float, bool]] = [] if plain is None else [(plain, not low)]
    if strict is not None and schema.get("type") == "integer":
        bounds.append((strict + 1 if low else strict - 1, not low))
    elif strict is not None:
        bounds.append((strict, low))
    return (max(bounds) if low else min(bounds)) if bounds else None


def item_at(schema: Schema, n: int) -> Any:
    """The schema of the item at *n* of an array."""
    items = schema.get("items", {})
    if not isinstance(items, list):
        return items
    return items[n] if n < len(items) else schema.get("additionalItems", True)
