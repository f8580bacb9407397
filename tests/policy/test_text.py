"""Whatever a handler raises becomes text that PostgreSQL stores: describing a failure must never be the failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.policy.text import ErrorText, clean, describe

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("\0\ud800aé€😀", max_size=60)


def size(error: ErrorText) -> int:
    return sum(len(part.encode()) for part in (error.type, error.message, error.traceback))


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


@given(ANY_TEXT, st.integers(0, 80))
def test_clean_text_is_storable_and_within_the_limit(text: str, limit: int) -> None:
    cleaned = clean(text, limit)

    assert "\0" not in cleaned
    assert len(cleaned.encode()) <= limit


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_storable_text_within_the_limit_is_not_touched(text: str) -> None:
    assert clean(text, len(text.encode())) == text


@given(st.text("aé€😀", min_size=60, max_size=200), st.integers(30, 59))
def test_a_cut_keeps_whole_characters_and_counts_what_is_gone(text: str, limit: int) -> None:
    kept, _, mark = clean(text, limit).rpartition("… [cut ")

    assert text.startswith(kept)
    assert mark == f"{len(text.encode()) - len(kept.encode())} bytes]"


def test_nul_is_dropped_and_half_a_character_is_shown_as_missing() -> None:
    assert clean("a\0b\ud800c") == "ab\ufffdc"


def test_an_error_is_told_by_name_message_and_traceback() -> None:
    error = describe(caught(ValueError("no such order")))

    assert (error.type, error.message) == ("ValueError", "no such order")
    assert error.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert ", in caught\n    raise error\n" in error.traceback
    assert error.traceback.endswith("ValueError: no such order\n")


def test_a_class_is_named_as_one_would_import_it() -> None:
    class Odd(Exception):
        pass

    assert describe(Odd()).type.endswith("test_a_class_is_named_as_one_would_import_it.<locals>.Odd")
    assert describe(UnicodeError()).type == "UnicodeError"


def test_local_variables_stay_private() -> None:
    def handler() -> NoReturn:
        card = "-".join(["4111", "1111"])
        raise ValueError(len(card))

    with pytest.raises(ValueError) as raised:
        handler()

    assert "4111-1111" not in describe(raised.value).traceback


def test_causes_are_told_behind_the_error_so_that_a_cut_takes_them_first() -> None:
    error = caught(RuntimeError("effect"))
    error.__cause__ = caught(KeyError("k" * 190))
    whole = describe(error).traceback
    cut = describe(error, len(whole)).traceback

    assert whole.index("RuntimeError: effect") < whole.index("Caused by:") < whole.index("KeyError: ")
    assert "RuntimeError: effect" in cut
    assert "KeyError: " not in cut or cut.endswith("bytes]")
    assert len(cut) < len(whole)


def test_members_of_a_group_are_told() -> None:
    told = describe(ExceptionGroup("two", [ValueError("first"), TypeError("second")])).traceback

    assert "ValueError: first" in told
    assert "TypeError: second" in told


def test_causes_in_a_circle_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one

    assert describe(one).traceback.count("Caused by:") == 1


def test_deep_recursion_keeps_both_ends_of_the_stack() -> None:
    def dive(depth: int) -> int:
        return dive(depth + 1) + 1

    with pytest.raises(RecursionError) as raised:
        dive(0)
    told = describe(raised.value).traceback

    assert "test_deep_recursion_keeps_both_ends_of_the_stack" in told
    assert "frames left out" in told
    assert told.rstrip().splitlines()[-1].startswith("RecursionError: ")
    assert told.count("\n") < 80


def printing(how: Callable[[], object]) -> BaseException:
    """A raised exception whose text is whatever *how* does."""
    cls = type("Hostile", (Exception,), {"__str__": lambda _: how(), "__repr__": lambda _: how()})
    return caught(cls())


def throw(error: BaseException) -> NoReturn:
    raise error


def test_a_message_of_fifty_megabytes_is_formatted_once_and_cut() -> None:
    calls: list[str] = []

    def huge() -> str:
        calls.append("formatted")
        return "é" * 25_000_000

    error = describe(printing(huge))

    assert calls == ["formatted"]
    assert size(error) <= 8192
    assert error.message.endswith("bytes]")


def trap(*_: object, **__: object) -> NoReturn:
    raise ValueError("trap")


Trap = type("Trap", (str,), {"replace": trap, "encode": trap, "__getitem__": trap, "__len__": trap})
"""A str whose methods raise; `str()` hands out such a thing as it is."""


@pytest.mark.parametrize(
    "how",
    [
        lambda: throw(ValueError("again")),
        lambda: throw(RecursionError()),
        lambda: throw(SystemExit(3)),
        lambda: throw(KeyboardInterrupt()),
        lambda: 42,
        lambda: Trap("x" * 10_000),
        lambda: "\0\ud800" * 10_000,
    ],
    ids=["raises", "recursion", "exits", "interrupts", "no text", "trap", "unstorable"],
)
def test_an_exception_that_cannot_be_printed_is_still_described(how: Any) -> None:
    error = describe(printing(how))

    assert error.type.endswith("Hostile")
    assert error.message
    assert "in caught" in error.traceback
    assert size(error) <= 8192


@given(ANY_TEXT, st.integers(0, 400))
def test_a_description_is_always_storable_and_within_the_limit(message: str, limit: int) -> None:
    error = describe(caught(ValueError(message)), limit)

    assert size(error) <= limit
    assert "\0" not in error.type + error.message + error.traceback
