"""A call is checked where it is built, by the bounds that SQL enforces, and changed only by copying."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.errors import BadDuration, BadName, InvalidJob, OutOfBounds
from jobrunner.policy.durations import LONGEST
from jobrunner.policy.models import Claimed, Job

NAMES = {"task": 200, "queue": 200, "key": 512, "unique_key": 512, "subject": 512}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job(**options: Any) -> Job:
    return Job(**{"task": "shop.pay", **options})


@pytest.mark.parametrize(("field", "limit"), NAMES.items())
def test_names_are_bounded_in_bytes(field: str, limit: int) -> None:
    assert getattr(job(**{field: "é" * (limit // 2)}), field)

    for wrong in ("", "a" * (limit + 1), "é" * (limit // 2) + "a"):
        with pytest.raises(BadName, match=rf"^{field} must "):
            job(**{field: wrong})


@pytest.mark.parametrize("field", NAMES)
@pytest.mark.parametrize("wrong", ["a\nb", "\0", "\x7f", "é\x85", "é\u2028", "\ud800", 5, b"x"])
def test_names_without_control_characters_and_in_valid_unicode_only(field: str, wrong: Any) -> None:
    with pytest.raises(BadName, match=rf"^{field} must "):
        job(**{field: wrong})


@given(st.text(st.characters(exclude_categories=()), max_size=210))
def test_every_accepted_name_fits_sql(name: str) -> None:
    try:
        job(queue=name)
    except BadName:
        return
    assert 1 <= len(name.encode()) <= 200
    assert not any(ord(character) < 32 or ord(character) == 127 for character in name)


@pytest.mark.parametrize(
    ("field", "least", "most"), [("priority", -32768, 32767), ("version", 1, 32767), ("max_attempts", 1, 1000)]
)
def test_numbers_are_bounded_as_their_columns(field: str, least: int, most: int) -> None:
    assert [least, most] == [getattr(job(**{field: n}), field) for n in (least, most)]

    for wrong in (least - 1, most + 1, "5", 1.5, True):
        with pytest.raises(OutOfBounds, match=rf"^{field} must be a whole number from {least} to {most}"):
            job(**{field: wrong})


@pytest.mark.parametrize(
    "options",
    [
        {"delay": timedelta(microseconds=-1)},
        {"delay": LONGEST + timedelta(microseconds=1)},
        {"delay": "5m"},
        {"run_at": NOON.replace(tzinfo=None)},
        {"run_at": "tomorrow"},
        {"run_at": NOON, "delay": timedelta(0)},
        {"unique_until": "never"},
    ],
    ids=str,
)
def test_impossible_starts_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob):
        job(**options)


def test_using_changes_a_copy_and_reads_durations() -> None:
    call = Job("shop.pay", {"order": 1}, queue="mail")
    changed = call.using(delay="5m", subject="order:1", queue=None)

    assert changed == Job("shop.pay", {"order": 1}, delay=timedelta(minutes=5), subject="order:1")
    assert call == Job("shop.pay", {"order": 1}, queue="mail")
    assert call.using(delay=90).delay == call.using(delay=timedelta(seconds=90)).delay == timedelta(seconds=90)
    assert changed.using(delay=None, run_at=NOON).run_at == NOON


def test_using_checks_like_building() -> None:
    with pytest.raises(BadDuration, match=r"^delay "):
        job().using(delay="soon")
    with pytest.raises(OutOfBounds):
        job().using(priority=40_000)
    with pytest.raises(TypeError):
        job().using(prioritty=1)  # type: ignore[call-arg]


def test_a_call_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        job().queue = "mail"  # type: ignore[misc]


def test_a_claimed_row_has_the_fields_of_the_claim_in_order() -> None:
    """The claimer builds it by position from a row."""
    names = [field.name for field in fields(Claimed)]

    assert " ".join(names[:10]) == "id task version queue priority seq attempt failures crashes max_attempts"
    assert " ".join(names[10:16]) == "key args headers run_at created_at started_at"
    assert names[16:] == ["event", "batch"], "what is read afterwards"
