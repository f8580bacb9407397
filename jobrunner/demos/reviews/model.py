"""What a line must be: takes a block of lines, returns the reviews in it and what is wrong with the others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

from jobrunner.demos.reviews.lines import LINE_LIMIT, Block

_MESSAGE, _EXCERPT = 300, 120  # characters kept of a bad line


class Kind(StrEnum):
    """What can be wrong with a line; the value is what people read."""

    TOO_LONG = "too long"
    """Over `LINE_LIMIT` bytes."""
    NOT_UTF8 = "not UTF-8"
    """Bytes that are no text."""
    NOT_JSON = "not JSON"
    """Cut off, malformed, nested over 200 levels."""
    NOT_AN_OBJECT = "not an object"
    """JSON, but a list or a number."""
    MISSING_FIELD = "missing field"
    """Without review_id, hotel_id, rating or content."""
    WRONG_VALUE = "wrong value"
    """A field of the wrong type or out of its range."""
    REFUSED = "refused by the database"
    """Valid here, and against a rule of the table or of PostgreSQL (a NUL character)."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not stored, and why."""

    line: int
    """Its number in the file, from 1."""
    kind: str
    """A `Kind`, with the name of the field where it is about one: "missing field: hotel_id"."""
    message: str
    """What is wrong, for a person: at most 300 printable characters."""
    excerpt: str
    """How it begins: at most 120 printable characters."""


def _in_utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


_Name = Annotated[str, Field(min_length=1)]


class Review(TypedDict):
    """One review. A TypedDict: pydantic checks it 2.5 times faster than a model (3.5 against 9 µs a line)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    review_id: _Name
    hotel_id: _Name
    rating: Annotated[int, Field(strict=True, ge=1, le=5)]  # strict: true and "5" are no numbers
    content: str
    author: NotRequired[str | None]
    title: NotRequired[str | None]
    language: NotRequired[str | None]
    created_at: NotRequired[Annotated[datetime, AfterValidator(_in_utc)] | None]
    images: NotRequired[list[str] | None]


_review = TypeAdapter(Review)
_reviews = TypeAdapter(list[Review], config=ConfigDict(ser_json_inf_nan="constants"))
# NaN is no JSON: it is written as it came, so that the database refuses the row. By default it would be kept as null.


@dataclass(frozen=True, slots=True)
class Checked:
    """A block after its lines were looked at."""

    block: Block
    """As read."""
    good: list[tuple[int, Review]]
    """Line number and review, sorted by review_id: importers that meet on rows take them in one order, so no deadlock."""
    bad: list[BadLine]
    """In the order of the file."""


def check(block: Block) -> Checked:
    """The reviews of *block*, and its bad lines. Never raises."""
    good: list[tuple[int, Review]] = []
    bad: list[BadLine] = []
    for number, text in block.texts:
        found = parse(number, text)
        if isinstance(found, BadLine):
            bad.append(found)
        else:
            good.append((number, found))
    good.sort(key=lambda row: row[1]["review_id"])
    return Checked(block, good, bad)


def parse(number: int, text: bytes) -> Review | BadLine:
    """The review in line *number*, or what is wrong with it. Never raises."""
    if len(text) > LINE_LIMIT:
        return bad_line(number, Kind.TOO_LONG, f"the line has more than {LINE_LIMIT:,} bytes", text)
    try:
        return _review.validate_json(text)
    except ValidationError as error:
        kind, message = _explain(error, text)
        return bad_line(number, kind, message, text)


def bad_line(number: int, kind: str, message: str, text: bytes) -> BadLine:
    """A bad line with message and excerpt cut to size and safe to store and to print."""
    start = text[: 4 * _EXCERPT].decode(errors="replace")
    return BadLine(number, kind, _printable(message, _MESSAGE), _printable(start, _EXCERPT))


def as_json(reviews: list[Review]) -> str:
    """*reviews* as the JSON array that the insert takes."""
    return _reviews.dump_json(reviews).decode()


def _explain(error: ValidationError, text: bytes) -> tuple[str, str]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    match found[0]["type"]:
        case "json_invalid":
            return _not_json(text, found[0]["msg"])
        case "dict_type":
            return Kind.NOT_AN_OBJECT, "a line must be a JSON object"
        case "missing":
            kind = Kind.MISSING_FIELD
        case _:
            kind = Kind.WRONG_VALUE
    told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found[:3])
    return f"{kind}: {found[0]['loc'][0]}", told


def _not_json(text: bytes, message: str) -> tuple[str, str]:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return Kind.NOT_UTF8, f"byte {error.start + 1} of the line is not UTF-8"
    return Kind.NOT_JSON, message.removeprefix("Invalid JSON: ").replace(" at line 1 column ", " at character ")


def _printable(text: str, limit: int) -> str:
    """*text* on one line: no NUL, no lone surrogate, nothing that a terminal obeys."""
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
