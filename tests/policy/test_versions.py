"""Upcasters: from each version to the next, complete, pure, and every way in which one can fail is a reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.errors import ConfigError, InvalidArguments
from jobrunner.policy.events import Event, publication, type_of
from jobrunner.policy.versions import Upcasters


class Moved(Event, name="moved", version=4, oldest=2):
    path: list[int]


def _steps(*starts: int) -> Upcasters:
    made = Upcasters()
    for start in starts:
        made.add("moved", start, _step(start))
    return made


def _step(start: int) -> Any:
    return lambda data: {"path": [*data.get("path", []), start]}


@given(st.sets(st.integers(1, 6)))
def test_a_chain_is_complete_when_it_leads_from_the_oldest_to_the_newest_and_no_further(starts: set[int]) -> None:
    made = _steps(*starts)
    missing, beyond = {2, 3} - starts, {start for start in starts if start >= 4}

    if missing or beyond:
        with pytest.raises(ConfigError, match=f"no way from version {min(missing)}" if missing else "from version"):
            made.check(type_of(Moved))
    else:
        made.check(type_of(Moved))


@pytest.mark.parametrize(("version", "path"), [(2, [2, 3]), (3, [3]), (4, [])])
def test_each_version_takes_the_steps_that_it_lacks(version: int, path: list[int]) -> None:
    assert _steps(2, 3).instance(Moved, version, '{"path": []}', reader="r") == Moved(path=path)


def test_a_strict_class_reads_what_it_has_written() -> None:
    """From Python values it would refuse the text that its own UUIDs and dates are in JSON."""

    class Strict(Event, name="strict", strict=True):
        of: UUID
        at: datetime

    event = Strict(of=UUID(int=1), at=datetime(2026, 1, 2, tzinfo=UTC))
    assert Upcasters().instance(Strict, 1, json.dumps(dict(publication(event).data)), reader="r") == event


@pytest.mark.parametrize(
    ("version", "data", "told"),
    [
        (1, {}, "version 1 of moved is older than 2"),
        (4, {"path": "x"}, "path: Input should be a valid array"),
        (2, {"path": None}, "the upcaster of moved from version 2 raised TypeError"),
    ],
)
def test_what_cannot_be_read_is_invalid_and_says_why(version: int, data: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArguments, match=told) as refused:
        _steps(2, 3).instance(Moved, version, json.dumps(data), reader="shop.handler")
    assert "shop.handler" in str(refused.value)
