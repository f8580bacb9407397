"""A payload that is accepted can be stored and read back; one that is refused is named by path, before any SQL."""

from __future__ import annotations

import enum
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.errors import InvalidArguments, InvalidJob, PayloadTooLarge, UnstorableText
from jobrunner.policy.payload import DEPTH_LIMIT, PAYLOAD_LIMIT, Json, encode

# Besides every character: the ones that matter, and text that only looks like an escaped NUL.
TEXT = st.text(st.characters(exclude_categories=()), max_size=5) | st.sampled_from(
    ["\0", "\ud800", "\udfff\ud800", "😀", "\\u0000", "\\\\u0000", "\\\0", "u0000", "é", "\x7f\u2028"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
)
ARGS = st.dictionaries(TEXT, VALUES, max_size=4)


def leaves(value: Any) -> list[Any]:
    """Every scalar and key in *value*."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in [key, *leaves(item)]]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def storable(leaf: Any) -> bool:
    """PostgreSQL manual, 8.14 JSON Types: jsonb has no NUL, no half of a surrogate pair, no NaN and no infinity."""
    if isinstance(leaf, str):
        return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in leaf)
    return not isinstance(leaf, float) or math.isfinite(leaf)


@given(ARGS)
def test_exactly_what_jsonb_can_hold_is_accepted_and_reads_back_equal(args: dict[str, Json]) -> None:
    if all(storable(leaf) for leaf in leaves(args)):
        assert json.loads(encode(args, "t")) == args
    else:
        with pytest.raises(InvalidJob):
            encode(args, "t")


@pytest.mark.parametrize(
    ("args", "path", "kind"),
    [
        ({"items": [1, {"name": "a\0"}]}, "args.items[1].name", "NUL character"),
        ({"a": "\ud83d\ude00"}, "args.a", "lone surrogate"),
        ({"ok": "\\u0000", "bad": ["\0"]}, "args.bad[0]", "NUL character"),
        ({"a": {"k\0": 1}}, 'args.a["k\\u0000"]', "NUL character"),
        ({"\ud800": 1}, 'args["\\ud800"]', "lone surrogate"),
        ({"two words": "\0"}, 'args["two words"]', "NUL character"),
    ],
)
def test_text_that_cannot_be_stored_is_named_by_path(args: dict[str, Json], path: str, kind: str) -> None:
    with pytest.raises(UnstorableText) as caught:
        encode(args, "t")

    assert (path, kind) == (caught.value.path, caught.value.kind)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "args.a[0] is nan"),
        (-math.inf, "args.a[0] is -inf"),
        (datetime(2026, 1, 1, tzinfo=UTC), "args.a[0] is a datetime"),
        (Decimal(1), "args.a[0] is a Decimal"),
        (b"x", "args.a[0] is a bytes"),
        ({1, 2}, "args.a[0] is a set"),
        ({(1, 2): 3}, "keys must be str, int, float, bool or None, not tuple"),
        (10**5000, "4300 digits"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_not_json_is_named_by_path(value: Any, said: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        encode({"a": [value]}, "shop.pay")

    assert said in str(caught.value)
    assert "shop.pay" in str(caught.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle += [circle, circle]

    with pytest.raises(InvalidArguments, match=r"args\.a\[0\] contains itself"):
        encode({"a": circle}, "t")


def nested(levels: int) -> dict[str, Json]:
    value: Json = 1
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize("levels", [DEPTH_LIMIT + 1, 5_000, 50_000])
def test_nesting_that_a_runner_could_not_decode_is_refused(levels: int) -> None:
    with pytest.raises(InvalidArguments, match="nested deeper than 500"):
        encode(nested(levels), "t")


def test_nesting_up_to_the_limit_and_many_shallow_values_are_accepted() -> None:
    assert json.loads(encode(nested(DEPTH_LIMIT), "t")) == nested(DEPTH_LIMIT)
    assert encode({"a": [[]] * 5_000}, "t").count("[]") == 5_000


def test_the_limit_counts_bytes_not_characters() -> None:
    fits = {"a": "é" * ((PAYLOAD_LIMIT - 8) // 2)}
    assert len(encode(fits, "t").encode()) == PAYLOAD_LIMIT

    with pytest.raises(PayloadTooLarge) as caught:
        encode({"a": f"{fits['a']}é"}, "t")

    assert (caught.value.size, caught.value.limit) == (PAYLOAD_LIMIT + 2, PAYLOAD_LIMIT)


def test_headers_are_named_as_headers() -> None:
    with pytest.raises(UnstorableText, match=r"^headers\.trace contains a NUL"):
        encode({"trace": "\0"}, "t", root="headers")


def test_any_mapping_and_string_enums_are_written_as_plain_json() -> None:
    colour = enum.StrEnum("colour", ["RED"])

    args: MappingProxyType[str, Any] = MappingProxyType({"a": (1, colour.RED)})

    assert encode(args, "t") == '{"a":[1,"red"]}'
