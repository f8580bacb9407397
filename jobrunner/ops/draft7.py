"""pydantic's JSON schemas in the dialect that AsyncAPI's schema objects speak, draft 7: takes a schema, returns one."""

from __future__ import annotations

import json
from typing import Any

_ONE = ("items", "additionalItems", "additionalProperties", "contains", "else", "if", "not", "propertyNames", "then")
_MANY = ("allOf", "anyOf", "items", "oneOf")
_NAMED = ("patternProperties", "properties")


def as_draft_7(schema: Any) -> Any:
    """*schema*, of draft 2020-12, in the words of draft 7, with lists whose order means nothing in one order.

    A discriminator is left out: what it says is in the constants of the alternatives, and AsyncAPI's own is another thing.
    """
    if not isinstance(schema, dict):
        return schema  # true or false
    made = {word: value for word, value in schema.items() if word != "discriminator"}
    if "prefixItems" in made:
        if "items" in made:
            made["additionalItems"] = made.pop("items")
        made["items"] = made.pop("prefixItems")
    if "$ref" in made and len(made) > 1:  # draft 7 ignores what stands beside a reference
        made["allOf"] = [{"$ref": made.pop("$ref")}, *made.get("allOf", [])]
    for word, value in made.items():
        if word in _NAMED:
            made[word] = {name: as_draft_7(inner) for name, inner in value.items()}
        elif word in _MANY and isinstance(value, list):
            made[word] = [as_draft_7(inner) for inner in value]
        elif word in _ONE:
            made[word] = as_draft_7(value)
    if "required" in made:
        made["required"] = sorted(made["required"])
    if made.get("uniqueItems") and isinstance(
        made.get("default"), list
    ):  # a set has no order, and hashes differ by run
        made["default"] = sorted(made["default"], key=lambda item: json.dumps(item, sort_keys=True))
    return made
