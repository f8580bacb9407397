"""What changed between two AsyncAPI documents of one app that would break somebody: takes both, returns the changes.

What is sent must stay readable by consumers of the old document; what is received must fit what producers of the old one
write, and what lies in the log. docs/asyncapi.md has the rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobrunner.errors import InputError
from jobrunner.ops.asyncapi import OPEN, Document
from jobrunner.ops.schemafit import Fit, Side
from jobrunner.ops.schemas import follow
from jobrunner.policy.events import SYSTEM
from jobrunner.policy.topics import matches


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One incompatible change."""

    type: str
    """Of the event; a pattern where a handler took any payload."""
    version: int
    """Of the payload, in the old document; 0 where a handler took any."""
    path: str
    """Where in the payload; empty for the event as a whole."""
    change: str
    """What changed, in words."""

    def __str__(self) -> str:
        version = f" v{self.version}" if self.version else ""
        return f"{self.type}{version}: {f'{self.path} ' if self.path else ''}{self.change}"


@dataclass(frozen=True, slots=True)
class Message:
    """A class of events, as a document has it."""

    view: str
    """Which class of the type it is, where there are several."""
    version: int
    oldest: int
    key: str | None
    payload: Any
    accepts: Any


@dataclass(slots=True)
class Contract:
    """What a document promises. By type: one class that is sent; those that are received; the patterns with any payload."""

    document: Document
    sent: dict[str, Message] = field(default_factory=dict)
    received: dict[str, dict[str, Message]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)


def load(path: Path) -> Document:
    """The document in a file that `jobrunner asyncapi` wrote.

    Raises:
        InputError: it cannot be read, or is no such document.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(str(path), error.strerror or str(error)) from error
    except ValueError as error:
        raise InputError(str(path), f"it is not JSON: {error}") from error
    if not isinstance(found, dict) or not str(found.get("asyncapi", "")).startswith("3."):
        raise InputError(str(path), "it is no AsyncAPI 3 document; give it the output of jobrunner asyncapi")
    return found


def changes(old: Document, new: Document, *, source: str = "the earlier document") -> list[Change]:
    """Every incompatible change from *old* to *new*, in order. *source* is what an error calls *old*.

    Raises:
        InputError: *old* is not what `jobrunner asyncapi` writes.
    """
    after = _contract(new)
    # The file may hold anything: whatever does not have the shape that was written here is told in one sentence.
    try:
        before = _contract(old)
        found = {*_sent(before, after), *_received(before, after)}
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        told = f"it has not the shape that jobrunner asyncapi writes ({type(error).__name__}: {error})"
        raise InputError(source, told) from error
    return sorted(found)


def _sent(before: Contract, after: Contract) -> Iterator[Change]:
    fit = Fit(before.document, after.document, Side.SEND)
    for name, old in before.sent.items():
        new = after.sent.get(name)
        if new is None:
            yield Change(name, old.version, "", "is no longer published")
        elif new.version < old.version:
            yield Change(name, old.version, "", f"is published as version {new.version}")
        elif new.version == old.version:
            if new.key != old.key:
                yield Change(
                    name, old.version, "", f"was ordered by {old.key or 'nothing'} and is by {new.key or 'nothing'}"
                )
            for one in fit.differences(old.payload, new.payload):
                yield Change(name, old.version, one.path, one.change)


def _received(before: Contract, after: Contract) -> Iterator[Change]:
    fit = Fit(before.document, after.document, Side.RECEIVE)
    for name, views in before.received.items():
        for old in views.values():
            new = _counterpart(after, name, old)
            if new is None:
                if not matches(name, after.open):
                    yield Change(name, old.version, "", "is no longer received")
                continue
            if new.version < old.version:
                yield Change(name, old.version, "", f"is read up to version {new.version} only")
            if new.oldest > old.oldest:
                yield Change(
                    name, old.version, "", f"is read from version {new.oldest} on only, and was from {old.oldest}"
                )
            if new.version == old.version:
                for one in fit.differences(old.accepts, new.accepts):
                    yield Change(name, old.version, one.path, one.change)
    for pattern in before.open:
        if any(_covers(wider, pattern) for wider in after.open):
            continue
        if pattern not in after.received:
            yield Change(pattern, 0, "", "is no longer received")
        for new in after.received.get(pattern, {}).values():
            for one in fit.differences({"type": "object"}, new.accepts):
                yield Change(pattern, 0, one.path, one.change)


def _counterpart(after: Contract, name: str, old: Message) -> Message | None:
    views = after.received.get(name, {})
    return views.get(old.view) or views.get("") or next(iter(views.values()), None)


def _covers(wider: str, pattern: str) -> bool:
    """Whether every type that matches *pattern* surely matches *wider*."""
    if pattern.split(".")[0] == SYSTEM != wider.split(".")[0]:
        return False
    return _covers_words(wider.split("."), pattern.split("."))


def _covers_words(wider: list[str], words: list[str]) -> bool:
    if not wider:
        return not words
    if wider[0] == "#":
        return _covers_words(wider[1:], words) or (bool(words) and _covers_words(wider, words[1:]))
    if not words or words[0] == "#":
        return False
    return wider[0] in ("*", words[0]) and _covers_words(wider[1:], words[1:])


def _contract(document: Document) -> Contract:
    made = Contract(document)
    for operation in document.get("operations", {}).values():
        channel = follow(document, operation["channel"]["$ref"])
        for reference in operation["messages"]:
            key = str(reference["$ref"]).rpartition("/")[2]
            told = follow(document, follow(document, reference["$ref"])["$ref"])
            if key == OPEN:
                made.open.add(channel.get("x-jobrunner-pattern", channel["address"]))
                continue
            message = _message(key, told)
            if operation["action"] == "send":
                made.sent[told["name"]] = message
            else:
                made.received.setdefault(told["name"], {})[message.view] = message
    return made


def _message(key: str, told: Document) -> Message:
    version = int(told["x-jobrunner-version"])
    return Message(
        view=key.removeprefix(f"{told['name']}.v{version}"),
        version=version,
        oldest=int(told.get("x-jobrunner-oldest", version)),
        key=told.get("x-jobrunner-key"),
        payload=told["payload"],
        accepts=told.get("x-jobrunner-accepts", told["payload"]),
    )
