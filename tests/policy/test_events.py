"""Event classes: what the class line says, what it refuses, and what is stored of an instance."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.errors import BadName, ConfigError, OutOfBounds
from jobrunner.policy.envelope import Envelope
from jobrunner.policy.events import Event, EventType, publication, type_of
from jobrunner.policy.recorded import Recorded

ORDER = UUID(int=7)
AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))


class Paid(Event, name="order.paid", version=3, oldest=2, key="order_id", subject="order:{order_id}/{line}"):
    order_id: UUID
    line: int = 1
    amount: Decimal = Decimal(0)


def test_the_class_line_declares_the_type() -> None:
    assert type_of(Paid) == EventType("order.paid", 3, "order_id", "order:{order_id}/{line}", 2)
    assert type_of(Paid(order_id=ORDER)) is type_of(Paid)


def test_an_event_is_immutable_and_validated() -> None:
    event = Paid(order_id=ORDER)
    with pytest.raises(pydantic.ValidationError):
        event.line = 2
    with pytest.raises(pydantic.ValidationError):
        Paid.model_validate({"order_id": "x"})


def test_a_base_class_of_ones_own_needs_no_name_and_gives_none_on() -> None:
    class Base(Event):
        tenant: str

    class Made(Base, name="made", key="tenant"):
        n: int

    class Also(Made):
        m: int

    assert type_of(Made).key == "tenant"
    for cls in (Base, Also):
        with pytest.raises(ConfigError, match="has no name"):
            type_of(cls)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"name": "order paid"}, BadName, "words of letters"),
        ({"name": "order."}, BadName, "words of letters"),
        ({"name": "order.*"}, BadName, "words of letters"),
        ({"name": "ö"}, BadName, "words of letters"),
        ({"name": "x" * 201}, BadName, "200 bytes"),
        ({"name": "jobrunner.mine"}, ConfigError, "belong to jobrunner"),
        ({"name": "a", "version": 0}, OutOfBounds, "version"),
        ({"name": "a", "version": 2, "oldest": 3}, ConfigError, "oldest=3"),
        ({"name": "a", "key": "nothing"}, ConfigError, "has no field nothing"),
        ({"name": "a", "subject": "x:{nothing}"}, ConfigError, "has no field nothing"),
        ({"name": "a", "subject": "x:{n"}, ConfigError, "cannot be read"),
    ],
)
def test_a_class_line_that_cannot_work_is_refused_at_import(
    arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        type("Odd", (Event,), {"__annotations__": {"n": int}, "__module__": __name__}, **arguments)


def test_an_argument_that_nobody_knows_is_refused_and_pydantics_own_are_its() -> None:
    with pytest.raises(TypeError, match="nam"):
        type("Odd", (Event,), {"__module__": __name__}, nam="x")

    class Strict(Event, name="strict", strict=True):
        n: int

    with pytest.raises(pydantic.ValidationError):
        Strict.model_validate({"n": "1"})


def test_what_is_stored_is_json_with_key_and_subject() -> None:
    made = publication(Paid(order_id=ORDER, line=2, amount=Decimal("1.50")))

    assert made.data == {"order_id": str(ORDER), "line": 2, "amount": "1.50"}
    assert (made.key, made.subject) == (str(ORDER), f"order:{ORDER}/2")
    assert json.dumps(made.data)


@pytest.mark.parametrize(("value", "key"), [("a", "a"), (5, "5"), (True, "true"), (None, None), ([1, "ü"], '[1,"ü"]')])
def test_any_json_can_be_a_key(value: Any, key: str | None) -> None:
    class Keyed(Event, name="keyed", key="of"):
        of: Any

    assert publication(Keyed(of=value)).key == key


def test_an_alias_is_what_is_stored_and_the_key_is_still_found() -> None:
    class Aliased(Event, name="aliased", key="order_id"):
        order_id: str = pydantic.Field(alias="orderId")

    made = publication(Aliased(orderId="x"))

    assert (made.data, made.key) == ({"orderId": "x"}, "x")


def test_a_class_that_could_never_be_read_is_refused_at_import() -> None:
    with pytest.raises(ConfigError, match="writes field n under a name that it does not read"):

        class Odd(Event, name="odd"):
            n: int = pydantic.Field(serialization_alias="m")

    with pytest.raises(ConfigError, match="computed field twice"):

        class Closed(Event, name="closed", extra="forbid"):
            n: int

            @pydantic.computed_field  # type: ignore[prop-decorator]
            @property
            def twice(self) -> int:
                return self.n * 2

    class Fine(Event, name="fine", populate_by_name=True):
        n: int = pydantic.Field(alias="m")
        o: int = pydantic.Field(validation_alias=pydantic.AliasChoices("o", "p"))

    assert publication(Fine(m=1, o=2)).data == {"m": 1, "o": 2}


def test_an_empty_key_is_refused() -> None:
    class Keyed(Event, name="keyed2", key="of"):
        of: str

    with pytest.raises(BadName, match="key must not be empty"):
        publication(Keyed(of=""))


def _recorded(**others: Any) -> Recorded:
    values: dict[str, Any] = {
        "position": 12, "recorded_at": AT, "event_id": ORDER, "type": "order.paid", "version": 2, "source": "shop", "subject": None,
        "key": None, "occurred_at": AT, "data": '{"a": 1}', "headers": "{}", "correlation_id": ORDER, "cause_event": None,
        "cause_job_id": None, **others,
    }  # fmt: skip
    return Recorded(**values)


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ({}, None),
        ({"cause_job_id": 5}, "job:5"),
        ({"cause_event": UUID(int=9)}, str(UUID(int=9))),
        ({"cause_event": UUID(int=9), "cause_job_id": 5}, str(UUID(int=9))),
    ],
)
def test_the_cause_is_the_event_or_else_the_job(cause: dict[str, Any], told: str | None) -> None:
    assert Envelope.of(_recorded(**cause), replay=False).causation_id == told


@given(
    st.dictionaries(st.sampled_from(["traceparent", "tracestate", "tenant"]), st.text(max_size=5)),
    st.none() | st.text(min_size=1, max_size=5),
    st.integers(0, 2**63 - 1),
)
def test_a_cloudevent_has_what_the_specification_requires_and_nothing_empty(
    headers: dict[str, str], key: str | None, position: int
) -> None:
    event = Envelope.of(_recorded(headers=json.dumps(headers), key=key, position=position), replay=False).cloudevent()

    assert {"specversion", "id", "source", "type", "time", "datacontenttype", "data"} <= event.keys()
    assert None not in event.values()
    assert event["time"] == AT.astimezone(UTC).isoformat().replace("+00:00", "Z")
    assert event.get("partitionkey") == key
    assert event.get("sequence") == (f"{position:019d}" if position else None)
    assert "tenant" not in event
    assert event.get("traceparent") == headers.get("traceparent")
    assert all(name.isalnum() and name.islower() for name in event), "attribute names are a-z and 0-9"
