"""Which changes of an app's events break somebody who has an earlier document of them."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from jobrunner import App, Context, Event
from jobrunner.errors import InputError
from jobrunner.ops.asyncapi import Document, document
from jobrunner.ops.compatibility import changes, load
from jobrunner.policy.events import publication
from tests.ops.shop import Card, Cash, Colour, Line, OrderRefunded, Tree, Wire, shop


def _handle(ctx: Context, event: Any) -> None: ...


def made(
    fields: dict[str, Any], *, version: int = 1, oldest: int = 1, key: str | None = None, extra: Any = None
) -> Any:
    """A class of the type order.paid; a field is a type, or a type and its default."""
    shapes: dict[str, Any] = {name: one if isinstance(one, tuple) else (one, ...) for name, one in fields.items()}
    arguments = {
        "name": "order.paid",
        "version": version,
        "oldest": oldest,
        "key": key,
        **({"extra": extra} if extra else {}),
    }
    return pydantic.create_model("OrderPaid", __base__=Event, __cls_kwargs__=arguments, **shapes)


def sends(*classes: Any) -> Document:
    app = App("shop")
    app.publishes(*classes)
    return document(app)


def receives(*what: Any) -> Document:
    app = App("shop")
    for number, one in enumerate(what):
        app.upcast("order.paid", 1)(lambda data: data) if number == 0 else None
        app.on(one, name=f"shop.s{number}")(_handle)
    return document(app)


def reads(cls: Any) -> Document:
    app = App("shop")
    app.on(cls, name="shop.s")(_handle)
    return document(app)


def told(before: Document, after: Document) -> list[str]:
    return [str(change) for change in changes(before, after)]


Fields: TypeAlias = dict[str, Any]
IS_STRING_NOW = "was integer and is string"
RULES: dict[str, tuple[Fields, Fields, list[str], list[str]]] = {
    # what: old fields, new fields, what breaks readers of what we send, what breaks writers of what we receive
    "nothing": ({"n": int}, {"n": int}, [], []),
    "order of fields": ({"n": int, "m": str}, {"m": str, "n": int}, [], []),
    "required added": ({"n": int}, {"n": int, "m": str}, [], ["m is new and required"]),
    "default added": ({"n": int}, {"n": int, "m": (str, "")}, [], []),
    "removed": ({"n": int, "m": str}, {"n": int}, ["m was removed"], []),
    "removed with default": ({"n": int, "m": (str, "")}, {"n": int}, ["m was removed"], []),
    "renamed": ({"n": int}, {"m": int}, ["n was removed"], ["m is new and required"]),
    "default gone": ({"n": (int, 1)}, {"n": int}, [], ["n is required now"]),
    "default given": ({"n": int}, {"n": (int, 1)}, [], []),
    "no longer written": ({"n": int}, {"n": (int, Field(1, exclude=True))}, ["n was removed"], []),
    "retyped": ({"n": int}, {"n": str}, [f"n {IS_STRING_NOW}"], [f"n {IS_STRING_NOW}"]),
    "int to float": ({"n": int}, {"n": float}, ["n was integer and is number"], []),
    "float to int": ({"n": float}, {"n": int}, [], ["n was number and is integer"]),
    "nullable": ({"n": int}, {"n": int | None}, ["n may now be null"], []),
    "not nullable": ({"n": int | None}, {"n": int}, [], ["n can no longer be null"]),
    "union wider": ({"n": int}, {"n": int | str}, ["n may now be any string"], []),
    "anything": ({"n": int}, {"n": Any}, ["n was integer and is anything"], []),
    "from anything": ({"n": Any}, {"n": int}, [], ["n was anything and is integer"]),
    "value added": ({"n": Literal["a"]}, {"n": Literal["a", "b"]}, ['n may now be "b"'], []),
    "value gone": ({"n": Literal["a", "b"]}, {"n": Literal["b"]}, [], ['n can no longer be "a"']),
    "freed": ({"n": Literal["a", "b"]}, {"n": str}, ["n may now be any string"], []),
    "enum to literals": ({"n": Colour}, {"n": Literal["red", "blue"]}, [], []),
    "format lost": ({"n": UUID}, {"n": str}, ['n format was "uuid" and is none'], []),
    "format gained": ({"n": str}, {"n": UUID}, [], ['n format was none and is "uuid"']),
    "text to decimal": ({"n": str}, {"n": Decimal}, [], ['n format was none and is "decimal"']),
    "bound lower": (
        {"n": Annotated[int, Field(le=10)]},
        {"n": Annotated[int, Field(le=5)]},
        [],
        ["n maximum was ≤ 10 and is ≤ 5"],
    ),
    "bound lost": ({"n": Annotated[int, Field(gt=0)]}, {"n": int}, ["n minimum was ≥ 1 and is none"], []),
    "bound reworded": ({"n": Annotated[int, Field(gt=0)]}, {"n": Annotated[int, Field(ge=1)]}, [], []),
    "bound stricter": (
        {"n": Annotated[float, Field(ge=0)]},
        {"n": Annotated[float, Field(gt=0)]},
        [],
        ["n minimum was ≥ 0 and is > 0"],
    ),
    "longer": (
        {"n": Annotated[str, Field(max_length=5)]},
        {"n": Annotated[str, Field(max_length=9)]},
        ["n maxLength was 5 and is 9"],
        [],
    ),
    "list of": ({"n": list[int]}, {"n": list[str]}, [f"n[] {IS_STRING_NOW}"], [f"n[] {IS_STRING_NOW}"]),
    "not a list": ({"n": int}, {"n": list[int]}, ["n was integer and is array"], ["n was integer and is array"]),
    "pair": (
        {"n": tuple[int, int]},
        {"n": tuple[int, str]},
        [f"n[1] {IS_STRING_NOW}"],
        [f"n[1] {IS_STRING_NOW}"],
    ),
    "pair to list": (
        {"n": tuple[int, int]}, {"n": list[int]}, ["n maxItems was 2 and is none", "n minItems was 2 and is none"], [],
    ),
    "values of a dict": ({"n": dict[str, int]}, {"n": dict[str, int | None]}, ["n.* may now be null"], []),
    "tag added": ({"n": Card | Cash}, {"n": Card | Cash | Wire}, ["n may now be Wire"], []),
    "tag gone": ({"n": Card | Cash}, {"n": Card}, [], ["n can no longer be Cash"]),
    "one becomes a union": ({"n": Card}, {"n": Card | Cash}, ["n may now be Cash"], []),
    "recursive": ({"n": Tree}, {"n": Tree}, [], []),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_change_breaks_readers_or_writers_or_nobody(rule: str) -> None:
    old, new, sent, received = RULES[rule]

    assert told(sends(made(old)), sends(made(new))) == [f"order.paid v1: {one}" for one in sent]
    assert told(reads(made(old)), reads(made(new))) == [f"order.paid v1: {one}" for one in received]


def test_a_change_deep_inside_is_found_once_with_its_path() -> None:
    def deep(**leaf: Any) -> Any:
        leaf_class: Any = pydantic.create_model("Leaf", price=(int, ...), **leaf)
        leaves: Any = GenericAlias(list, (leaf_class | None,))
        below: Any = "list[Branch]"
        branch: Any = pydantic.create_model("Branch", leaves=(leaves, ...), below=(below, []))
        branch.model_rebuild(_types_namespace={"Branch": branch})
        return made({"root": branch, "by_name": dict[str, branch]})

    old, new = deep(), deep(currency=(str, ...))

    assert told(reads(old), reads(new)) == [
        "order.paid v1: by_name.*.leaves[].currency is new and required",
        "order.paid v1: root.leaves[].currency is new and required",
    ]
    assert told(sends(new), sends(old))[0] == "order.paid v1: by_name.*.leaves[].currency was removed"


def test_a_closed_class_promises_and_takes_no_other_fields() -> None:
    assert told(sends(made({"n": int}, extra="forbid")), sends(made({"n": int, "m": int}, extra="forbid"))) == [
        "order.paid v1: m is new, and no others were promised"
    ]
    assert told(reads(made({"n": int, "m": int})), reads(made({"n": int}, extra="forbid"))) == [
        "order.paid v1: * other fields are no longer taken",
        "order.paid v1: m is no longer taken",
    ]
    assert told(reads(made({"n": int}, extra="forbid")), reads(made({"n": int, "m": (int, 1)}))) == []


def test_a_new_version_may_change_everything_while_the_old_ones_are_read() -> None:
    old, new = made({"n": int}, version=1), made({"m": str}, version=2)

    assert told(sends(old), sends(new)) == []
    assert told(reads(old), receives(new)) == []
    assert told(sends(new), sends(old)) == ["order.paid v2: is published as version 1"]
    assert told(receives(new), reads(old)) == ["order.paid v2: is read up to version 1 only"]
    assert told(reads(old), reads(made({"m": str}, version=2, oldest=2))) == [
        "order.paid v1: is read from version 2 on only, and was from 1"
    ]


def test_an_event_that_is_gone_or_ordered_otherwise_is_told() -> None:
    plain, keyed = made({"n": int}), made({"n": int}, key="n")

    assert told(sends(plain, OrderRefunded), sends(plain)) == ["order.refunded v1: is no longer published"]
    assert told(sends(plain), sends(plain, OrderRefunded)) == []
    assert told(reads(plain), reads(OrderRefunded)) == ["order.paid v1: is no longer received"]
    assert told(sends(keyed), sends(plain)) == ["order.paid v1: was ordered by n and is by nothing"]
    assert told(reads(keyed), reads(plain)) == []


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("order.*", "order.*", []),
        ("order.*", "order.#", []),
        ("order.*", "#", []),
        ("*.paid", "#.paid", []),
        ("order.#", "order.*", ["order.#: is no longer received"]),
        ("#", "order.#", ["#: is no longer received"]),
        ("order.paid", "order.*", []),
        ("order.*", "order.paid", ["order.*: is no longer received"]),
        ("jobrunner.#", "#", ["jobrunner.#: is no longer received"]),
        ("jobrunner.*", "jobrunner.#", []),
    ],
)
def test_a_pattern_is_covered_by_a_wider_one_only(before: str, after: str, wanted: list[str]) -> None:
    assert told(reads(before), reads(after)) == wanted


def test_a_handler_of_any_payload_that_becomes_one_of_a_class_takes_less() -> None:
    needs, needs_nothing = made({"n": int}), made({"n": (int, 1)})

    assert told(reads("order.paid"), reads(needs)) == ["order.paid: n is new and required"]
    assert told(reads("order.paid"), reads(needs_nothing)) == []
    assert told(reads(needs), reads("order.*")) == []


FIELDS: st.SearchStrategy[Fields] = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(
        [int, str, float, UUID, Decimal, Colour, Line, Tree, int | None, list[Line], dict[str, Tree], Any,
         tuple[int, Line], Literal["x", 1], Card | Cash | None, (int, 1), (list[Tree], [])]
    ),
    min_size=1,
)  # fmt: skip


@given(FIELDS)
@settings(max_examples=50, deadline=None)
def test_a_document_is_compatible_with_itself(fields: dict[str, Any]) -> None:
    for made_by in (sends, reads):
        one = made_by(made(fields))
        assert changes(one, json.loads(json.dumps(one))) == []


@given(FIELDS, FIELDS)
@settings(max_examples=50, deadline=None)
def test_optional_fields_may_be_added_and_taken_away_again_from_what_is_received(
    fields: dict[str, Any], more: dict[str, Any]
) -> None:
    added = {f"{name}_new": (one[0] if isinstance(one, tuple) else one | None, None) for name, one in more.items()
             if one is not Any}  # fmt: skip
    old, new = made(fields), made({**fields, **added})

    assert changes(sends(old), sends(new)) == []
    assert changes(reads(old), reads(new)) == []
    assert changes(reads(new), reads(old)) == []
    assert {one.path for one in changes(sends(new), sends(old))} == set(added)


VALUES: list[tuple[Any, Any]] = [
    (int, 5), (int, -5), (float, 1.5), (str, "x"), (str, ""), (UUID, UUID(int=1)), (Decimal, Decimal("1.5")), (Any, {"a": [1]}),
    (int | None, None), (str | int, 7), (Colour, Colour.RED), (Literal["red", "blue"], "blue"), (Literal["red"], "red"),
    (Literal["red", 1], 1), (Annotated[int, Field(le=5)], 5), (Annotated[int, Field(gt=0)], 9),
    (Annotated[str, Field(max_length=1)], "y"),
    (Line, Line(sku="a")), (Tree, Tree(name="a", below=[Tree(name="b")])), (Card, Card(number="1")), (Card | Cash, Cash()),
    (list[int], [1, 2]), (list[int | None], [None]), (list[Any], ["x"]), (tuple[int, str], (1, "x")), (tuple[int, int], (1, 2)),
    (dict[str, int], {"a": 1}), (dict[str, Any], {"sku": None}), (list[Line], [Line(sku="a")]), (date, date(2030, 1, 1)),
]  # fmt: skip
"""Types, and a value of each."""

VALUED = st.dictionaries(
    st.sampled_from(["a", "b"]), st.tuples(st.sampled_from(VALUES), st.booleans()), min_size=1
)  # fmt: skip


@given(VALUED, VALUED)
@settings(max_examples=200, deadline=None)
def test_what_counts_as_compatible_can_be_read(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The other way round a report may be too strict; a pair that passes must not fail in production."""

    def cls(valued: dict[str, Any]) -> Any:
        return made({name: (one[0], one[1] if optional else ...) for name, (one, optional) in valued.items()})

    def written(valued: dict[str, Any]) -> Any:
        return publication(cls(valued)(**{name: one[1] for name, (one, _) in valued.items()})).data

    old, new = cls(before), cls(after)

    if not changes(reads(old), reads(new)):
        new.model_validate(written(before))
    if not changes(sends(old), sends(new)):
        old.model_validate(written(after))


# ------------------------------------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no", "is not JSON"),
        ("[]", "is no AsyncAPI 3 document"),
        ('{"asyncapi": "2.6.0"}', "is no AsyncAPI 3 document"),
    ],
)
def test_a_file_that_is_no_document_is_told(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text(text)

    with pytest.raises(InputError, match=problem):
        load(file)


@pytest.mark.parametrize(
    "operations",
    [
        {"x": {"action": "send", "channel": {"$ref": "#/channels/none"}, "messages": []}},
        {"x": 5},
        [],
    ],
)
def test_a_document_of_another_shape_is_told(operations: object) -> None:
    with pytest.raises(InputError, match="has not the shape"):
        changes({"asyncapi": "3.0.0", "operations": operations}, document(shop()), source="old.json")


def test_a_schema_that_leads_back_to_itself_is_told() -> None:
    old = json.loads(json.dumps(document(shop())))
    old["components"]["schemas"]["OrderPaid-Output"] = {"$ref": "#/components/schemas/OrderPaid-Output"}

    with pytest.raises(InputError, match="has not the shape"):
        changes(old, document(shop()))
