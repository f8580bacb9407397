"""A call's arguments as the JSON text that is stored, or the reason why they cannot be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias, Union

from jobrunner.errors import InvalidArguments, PayloadTooLarge, UnstorableText

Json: TypeAlias = Union[bool, int, float, str, "list[Json]", "dict[str, Json]", None]
"""Any JSON value."""

PAYLOAD_LIMIT = 256 * 1024
"""Bytes of JSON that one payload may have; SQL refuses at 1 MB whoever sends it."""

DEPTH_LIMIT = 500
"""Levels of nesting; the decoder of CPython 3.11 gives up at the interpreter's limit of 1,000 calls."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_KEY = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def encode(value: Mapping[str, Json], task: str, *, root: str = "args", limit: int = PAYLOAD_LIMIT) -> str:
    """*value* as compact JSON text that PostgreSQL stores in a jsonb column as it is.

    On the path of every enqueue, so the value is only walked to name what is wrong with it. *root* is what the errors
    call the value ("headers"); *limit* is in bytes.

    Raises:
        UnstorableText: a string or key with NUL or a lone surrogate, by path.
        InvalidArguments: something that is not JSON (NaN, an object, a cycle), by path, or nested over 500 levels.
        PayloadTooLarge: over *limit*.
    """
    plain = value if isinstance(value, dict) else dict(value)
    try:
        text = _encode(plain)
        size = len(text) if text.isascii() else len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: also UnicodeEncodeError, cycles, long ints
        _check(plain, task, root)
        raise InvalidArguments(task, [f"{root} cannot be written as JSON: {error}"]) from None
    if size > limit:
        raise PayloadTooLarge(task, size, limit)
    # Three scans at the speed of memchr clear nearly all payloads. They may hit in vain ("\\u0000" is also how a
    # backslash before "u0000" looks, and many openings need not be deep): then the walk finds nothing.
    if "\\u0000" in text or text.count("[") + text.count("{") > DEPTH_LIMIT:
        _check(plain, task, root)
    return text


def _check(value: Json, task: str, root: str) -> None:
    """Raise for the first thing in *value* that cannot be stored. Walks with its own stack: depth is what it checks."""
    _check_leaf(value, task, root)
    open_ids, walks = [id(value)], [_children(value, root)]
    while walks:
        child = next(walks[-1], None)
        if child is None:
            walks.pop()
            open_ids.pop()
            continue
        path, item = child
        _check_leaf(item, task, path)
        if not isinstance(item, dict | list | tuple):
            continue
        if id(item) in open_ids:
            raise InvalidArguments(task, [f"{path} contains itself"])
        if len(walks) >= DEPTH_LIMIT:
            raise InvalidArguments(task, [f"{root} is nested deeper than {DEPTH_LIMIT} levels"])
        open_ids.append(id(item))
        walks.append(_children(item, path))


def _children(value: object, path: str) -> Iterator[tuple[str, object]]:
    match value:
        case dict():
            for key, item in value.items():
                if isinstance(key, str):  # what the encoder says of other keys is clear enough
                    yield f"{path}{_step(key)}", key
                yield f"{path}{_step(key)}", item
        case list() | tuple():
            for index, item in enumerate(value):
                yield f"{path}[{index}]", item


def _step(key: object) -> str:
    if isinstance(key, str):
        return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{json.dumps(key)}]"
    return f"[{key!r}]"


def _check_leaf(value: object, task: str, path: str) -> None:
    match value:
        case str():
            if "\0" in value:
                raise UnstorableText(path, "NUL character")
            if _SURROGATE.search(value):
                raise UnstorableText(path, "lone surrogate")
        case float():
            if not math.isfinite(value):
                raise InvalidArguments(task, [f"{path} is {value}, which JSON does not have; send None instead"])
        case None | bool() | int() | dict() | list() | tuple():
            pass
        case _:
            kind = type(value).__name__
            raise InvalidArguments(task, [f"{path} is a {kind}, which is not JSON; send it as text or a number"])
