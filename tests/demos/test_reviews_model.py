"""What makes a line a review, and what is said of one that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.demos.reviews.lines import LINE_LIMIT, Block
from jobrunner.demos.reviews.making import made_lines
from jobrunner.demos.reviews.model import BadLine, Kind, as_json, check, parse

GOOD: dict[str, Any] = {"review_id": "r1", "hotel_id": "h1", "rating": 5, "content": "Fine."}


def text(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def kind_of(line: bytes) -> str | None:
    found = parse(7, line)
    return found.kind if isinstance(found, BadLine) else None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rating": 1},
        {"content": ""},
        {"author": None, "title": None, "language": None, "created_at": None, "images": None},
        {"author": "Ann", "title": "T", "language": "en", "created_at": "2025-01-02T03:04:05Z", "images": ["a", "b"]},
        {"created_at": "2025-01-02"},
        {"anything": {"deep": [1, None]}, "else": None},
    ],
)
def test_a_line_with_the_four_fields_is_a_review(changes: dict[str, Any]) -> None:
    assert kind_of(text(**changes)) is None


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (text()[:-1], Kind.NOT_JSON),
        (b"review", Kind.NOT_JSON),
        (b'{"a": "tab\there"}', Kind.NOT_JSON),
        (b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", Kind.NOT_JSON),
        (rb'{"review_id": "\ud800"}', Kind.NOT_JSON),
        (b'{"x":' + b"9" * 5000 + b"}", Kind.NOT_JSON),
        (b'{"review_id": "caf\xe9"}', Kind.NOT_UTF8),
        (b"[]", Kind.NOT_AN_OBJECT),
        (b"null", Kind.NOT_AN_OBJECT),
        (b"3", Kind.NOT_AN_OBJECT),
        (b"{}", "missing field: review_id"),
        (text(rating=0), "wrong value: rating"),
        (text(rating=6), "wrong value: rating"),
        (text(rating=True), "wrong value: rating"),
        (text(rating="5"), "wrong value: rating"),
        (text(rating=4.5), "wrong value: rating"),
        (text(rating=None), "wrong value: rating"),
        (text(review_id=""), "wrong value: review_id"),
        (text(review_id=5), "wrong value: review_id"),
        (text(hotel_id=None), "wrong value: hotel_id"),
        (text(content=None), "wrong value: content"),
        (text(created_at="soon"), "wrong value: created_at"),
        (text(images="a.jpg"), "wrong value: images"),
        (b" " * 10 + b"x" * (LINE_LIMIT + 1), Kind.TOO_LONG),
    ],
)
def test_a_bad_line_is_told_by_its_kind(line: bytes, kind: str) -> None:
    found = parse(7, line)

    assert isinstance(found, BadLine)
    assert (7, kind) == (found.line, found.kind)
    assert found.message


@given(st.binary(max_size=300) | st.text().map(lambda t: json.dumps({"review_id": t}).encode()))
def test_no_line_whatever_makes_the_check_raise_or_leaves_text_that_cannot_be_stored_or_printed(line: bytes) -> None:
    found = parse(1, line)

    assert isinstance(found, BadLine)
    assert found.message.isprintable() and found.excerpt.isprintable()
    assert len(found.message) <= 300 and len(found.excerpt) <= 120


def test_unknown_fields_and_explicit_nulls_are_written_as_they_came() -> None:
    review = parse(1, text(stay=3, gone=None, author=None))

    assert not isinstance(review, BadLine)
    assert json.loads(as_json([review])) == [{**GOOD, "stay": 3, "gone": None, "author": None}]


def test_a_time_without_a_zone_is_utc() -> None:
    review = parse(1, text(created_at="2025-01-02T03:04:05"))

    assert not isinstance(review, BadLine)
    assert json.loads(as_json([review]))[0]["created_at"] == "2025-01-02T03:04:05Z"


def test_reviews_of_a_block_are_sorted_by_id_and_keep_their_line_numbers() -> None:
    """Two importers that meet on rows must take them in one order."""
    checked = check(Block([(4, text(review_id="b")), (5, b"{"), (6, text(review_id="a"))], blank=0, end=0))

    assert [(number, review["review_id"]) for number, review in checked.good] == [(6, "a"), (4, "b")]
    assert [bad.line for bad in checked.bad] == [5]


def test_made_lines_are_the_same_for_the_same_seed_and_of_every_kind() -> None:
    first, again, other = (list(made_lines(6000, seed)) for seed in (1, 1, 2))

    assert first == again != other
    shares = {expected: sum(line.expected == expected for line in first) for expected in ("failed", "duplicate")}
    assert all(30 <= count <= 100 for count in shares.values())
    kinds = {kind_of(line.text) for line in first if line.expected == "failed"}
    assert {
        None,  # valid here, refused by the database
        Kind.TOO_LONG,
        Kind.NOT_UTF8,
        Kind.NOT_JSON,
        Kind.NOT_AN_OBJECT,
        "missing field: hotel_id",
        "wrong value: rating",
        "wrong value: created_at",
        "wrong value: images",
    } == kinds
    assert {None} == {kind_of(line.text) for line in first if line.expected != "failed"}


def test_a_made_duplicate_repeats_an_earlier_review() -> None:
    seen: set[str] = set()
    for line in made_lines(6000, 3):
        if line.expected == "failed":
            continue
        review_id = json.loads(line.text)["review_id"]
        assert (review_id in seen) == (line.expected == "duplicate")
        seen.add(review_id)
