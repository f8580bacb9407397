"""Made reviews: the same lines for the same rows and seed, one in a hundred bad, one in a hundred a duplicate.

`made_lines` is a stream: a million rows take no more memory than ten.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from jobrunner.demos.reviews.lines import LINE_LIMIT

BAD_SHARE = DUPLICATE_SHARE = 0.01

_PRAISE = ("Spotless room", "Kind staff at the desk", "Breakfast worth getting up for", "Quiet at night", "A view")
_BLAME = ("The lift was out of order", "Thin walls", "Cold coffee", "No hot water", "An hour to check in")
_MIXED = ("Ten minutes to the station", "The pool closes at eight", "We paid for parking", "Room 12 looks to the yard")
_AUTHORS = ("Aino K.", "Béla", "Chiara", "Dmitri", "Esther M.", "Faïza", "Goran", "Hương", "伊藤", "Jón")
_LANGUAGES = ("en", "de", "fr", "it", "fi", "hu")
_EXAMPLES = 500  # earlier ids that a duplicate may repeat


@dataclass(frozen=True, slots=True)
class MadeLine:
    """A line, and what an import into an empty table must make of it."""

    text: bytes
    """Without a line end."""
    expected: Literal["stored", "failed", "duplicate"]
    """Where it counts. A duplicate may be met before its twin; the sums are the same."""


def made_lines(rows: int, seed: int) -> Iterator[MadeLine]:
    """*rows* lines, none of them empty. The first 20 bad ones go through all the kinds."""
    random = Random(seed)
    earlier: list[str] = []
    bad = 0
    for row in range(rows):
        dice = random.random()
        if dice < BAD_SHARE:
            yield MadeLine(_bad(bad, _review(random, f"bad-{row:09}")), "failed")
            bad += 1
        elif dice < BAD_SHARE + DUPLICATE_SHARE and earlier:
            yield MadeLine(_text(_review(random, random.choice(earlier))), "duplicate")
        else:
            review_id = f"r{seed}-{row:09}"
            if len(earlier) < _EXAMPLES:
                earlier.append(review_id)
            elif dice > 0.9:
                earlier[int(dice * 1e6) % _EXAMPLES] = review_id
            yield MadeLine(_text(_review(random, review_id)), "stored")


def _review(random: Random, review_id: str) -> dict[str, object]:
    rating = random.randint(1, 5)
    opinions = _PRAISE if rating > 3 else _BLAME if rating < 3 else _MIXED
    review: dict[str, object] = {
        "review_id": review_id,
        "hotel_id": f"hotel-{random.randrange(2000):04}",
        "rating": rating,
        "content": f"{random.choice(opinions)}. {random.choice(_MIXED)}. {random.choice(opinions)}.",
    }
    if random.random() < 0.8:
        review["author"] = random.choice(_AUTHORS)
        review["language"] = random.choice(_LANGUAGES)
        review["created_at"] = f"2025-{random.randint(1, 12):02}-{random.randint(1, 28):02}T09:00Z"
    if random.random() < 0.3:
        review["title"] = random.choice(opinions)
    if random.random() < 0.1:
        review["images"] = [f"https://images.example/{review_id}/{n}.jpg" for n in range(random.randint(1, 3))]
    if random.random() < 0.1:
        review["stay_nights"] = random.randint(1, 14)  # a field that the format does not name
    return review


_text_of = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _text(review: dict[str, object]) -> bytes:
    return _text_of(review).encode()


def _bad(count: int, review: dict[str, object]) -> bytes:
    """*review* spoiled in one of ten ways; a line over the limit comes only once, because it is large."""
    match count % 10:
        case 0:
            return _text(review)[:-20]  # cut off
        case 1:
            return _text({**review, "rating": 6})
        case 2:
            return _text({**review, "rating": "five"})
        case 3:
            del review["hotel_id"]
            return _text(review)
        case 4:
            return _text({**review, "content": "a NUL \0 that JSON allows and PostgreSQL refuses"})
        case 5:
            return _text({**review, "created_at": "yesterday"})
        case 6:
            return b'"just text"'
        case 7:
            return b'{"review_id": "caf\xe9"}'
        case 8:
            return _text({**review, "review_id": "x" * 201})  # valid, and against a CHECK of the table
        case _ if count == 9:
            return _text({**review, "content": "x" * LINE_LIMIT})
        case _:
            return _text({**review, "images": "none"})
