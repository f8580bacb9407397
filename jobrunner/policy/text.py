"""Foreign text made safe to store: what a handler raised, in a form that no settlement can fail on."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType

LIMIT = 8192
"""Bytes of UTF-8 that are kept of one error, all parts together."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_FIRST_FRAMES, _LAST_FRAMES = 5, 25
_LINE = 200  # characters of a line of source or of a path: generated code has lines of megabytes
_RELATED = 5  # causes and members of groups that are told besides the error itself


def clean(text: str, limit: int = LIMIT) -> str:
    """*text* as PostgreSQL can store it, in at most *limit* bytes of UTF-8.

    NUL is dropped, a lone surrogate becomes U+FFFD. What is too long is cut between two characters and ends in
    "… [cut N bytes]", which counts towards *limit*; a limit too small for that gets no mark.
    """
    safe = text.replace("\0", "")
    try:
        raw = safe.encode()
    except UnicodeEncodeError:
        raw = _SURROGATE.sub("\ufffd", safe).encode()
    if len(raw) <= limit:
        return raw.decode()
    room = limit - len(_mark(len(raw)).encode())
    if room < 0:
        return raw[: max(limit, 0)].decode(errors="ignore")
    kept = raw[:room].decode(errors="ignore")
    return kept + _mark(len(raw) - len(kept.encode()))


def _mark(cut: int) -> str:
    return f"… [cut {cut} bytes]"


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An error as it is stored: no NUL, no lone surrogate, bounded in bytes, no values of local variables."""

    type: str
    """Qualified name of the class, without `builtins.`: "ValueError", "httpx.ConnectError"."""
    message: str
    """What the exception says of itself."""
    traceback: str
    """Frames, last call last, then the causes; empty where nothing was raised."""


def type_name(cls: type) -> str:
    """The class as a person would import it: "ValueError", "httpx.ConnectError"."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def describe(error: BaseException, limit: int = LIMIT) -> ErrorText:
    """*error* as text of at most *limit* bytes, all three parts together. Never raises, whatever the exception does.

    The traceback has the first 5 and the last 25 frames, without locals, and the causes (also those of an exception
    group) behind it, so that a cut takes the farthest cause first. The message is formatted once.
    """
    name = clean(_type(error), limit // 4)
    said = clean(_message(error), limit // 2)
    room = limit - len(name.encode()) - len(said.encode())
    return ErrorText(type=name, message=said, traceback=clean(_traceback(error, name, said), room))


def _type(error: BaseException) -> str:
    try:
        return type_name(type(error))
    except BaseException:  # a metaclass may raise what it likes; see _message
        return "Exception"


def _message(error: BaseException) -> str:
    # BaseException, because a __str__ that raises SystemExit must not end the runner that reports it.
    try:
        return str.__str__(str(error))  # the inner one may return a subclass of str, with methods that raise
    except BaseException:
        return "(the exception cannot be printed: its __str__ raised)"


def _traceback(error: BaseException, name: str, said: str) -> str:
    try:
        parts = [*_frames(error.__traceback__), f"{name}: {_clip(said)}\n"]
        for how, other in _related(error):
            parts += [f"\n{how}\n", *_frames(other.__traceback__), f"{_type(other)}: {_clip(_message(other))}\n"]
        return "".join(parts)
    except Exception as broken:  # e.g. a source loader that fails; the message alone is still worth keeping
        return f"(no traceback: {_type(broken)} while it was formatted)"


def _frames(tb: TracebackType | None) -> Iterator[str]:
    calls: list[tuple[FrameType, int]] = list(traceback.walk_tb(tb))
    if not calls:
        return
    yield "Traceback (most recent call last):\n"
    left_out = len(calls) - _FIRST_FRAMES - _LAST_FRAMES
    if left_out <= 0:
        yield from _formatted(calls)
        return
    yield from _formatted(calls[:_FIRST_FRAMES])
    yield f"  … {left_out} frames left out …\n"
    yield from _formatted(calls[-_LAST_FRAMES:])


def _formatted(calls: list[tuple[FrameType, int]]) -> Iterator[str]:
    for entry in traceback.StackSummary.extract(iter(calls), capture_locals=False).format():
        yield "".join(f"{_clip(line)}\n" for line in entry.splitlines())


def _clip(text: str) -> str:
    return text if len(text) <= _LINE else f"{text[:_LINE]}…"


def _related(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """What lies behind *error*, nearest first: causes, and the members of groups; each once, `_RELATED` at most."""
    seen, waiting, told = {id(error)}, [error], 0
    while waiting:
        for how, other in _neighbours(waiting.pop(0)):
            if id(other) in seen or told == _RELATED:
                continue
            seen.add(id(other))
            waiting.append(other)
            told += 1
            yield how, other


def _neighbours(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    if isinstance(error, BaseExceptionGroup):
        yield from (("One of the group:", member) for member in error.exceptions)
    if error.__cause__ is not None:
        yield "Caused by:", error.__cause__
    elif error.__context__ is not None and not error.__suppress_context__:
        yield "While handling:", error.__context__
