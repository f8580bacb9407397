"""What a runner and its children say to each other: values, as frames of JSON over a socket.

A child may have gone wrong in any way. What it says is bounded in length, checked field by field, and never more than numbers and
text: nothing that it made is unpickled, imported or called.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter

from jobrunner.policy.models import Claimed
from jobrunner.policy.text import ErrorText
from jobrunner.worker.places import Place

HEADER = struct.Struct(">I")
"""The length of a frame, before it."""

LONGEST = 2**20
"""Bytes of a frame from a child: a result has 256 kB at the most, an error 8 kB."""

_STRICT = ConfigDict(extra="forbid", strict=True)

Stream: TypeAlias = Literal["stderr", "stdout"]
Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Broken(Exception):
    """A child said what no child says."""


# ------------------------------------------------------------------------------------------------ to a child


@dataclass(frozen=True, slots=True)
class Logs:
    """How the runner logs; see `loglike`."""

    level: int
    levels: dict[str, int]
    stream: Stream | None
    formatter: tuple[str, str]
    form: str | None
    dates: str | None


@dataclass(frozen=True, slots=True)
class Start:
    """The first frame: how the runner finds modules, its database, and its logs."""

    sys_path: list[str]
    dsn: str
    logs: Logs
    kind: Literal["start"] = "start"


@dataclass(frozen=True, slots=True)
class Run:
    """Run this job."""

    run: int
    """What every answer repeats."""
    job: Claimed
    place: Place
    runner_id: int
    """Under which the job is held, for its fence."""
    lends: bool
    """Whether there is `ctx.transaction()`."""
    kind: Literal["run"] = "run"


@dataclass(frozen=True, slots=True)
class Stop:
    """The run should end: `ctx.cancelled`."""

    run: int
    kind: Literal["stop"] = "stop"


# ------------------------------------------------------------------------------------------------ from a child


@dataclass(frozen=True, slots=True)
class Begun:
    """Everything is imported and read: the handler is called now."""

    __pydantic_config__ = _STRICT
    run: int
    kind: Literal["begun"] = "begun"


@dataclass(frozen=True, slots=True)
class Moved:
    """How far the run is."""

    __pydantic_config__ = _STRICT
    run: int
    processed: Count
    failed: Count
    total: Count | None = None
    message: str | None = None
    kind: Literal["moved"] = "moved"


@dataclass(frozen=True, slots=True)
class Reply:
    """One of the four answers."""

    __pydantic_config__ = _STRICT
    verb: Literal["retry", "snooze", "cancel", "reject"]
    delay: Seconds | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How the run ended; see `endings`."""

    __pydantic_config__ = _STRICT
    run: int
    how: Literal["succeeded", "in_place", "answered", "failed", "invalid", "handed_back"]
    result: str | None = None
    """JSON text of {"result": …}."""
    reply: Reply | None = None
    """What was answered; of a failure: what its rule says."""
    error: ErrorText | None = None
    reason: str | None = None
    kind: Literal["ended"] = "ended"


FromRunner: TypeAlias = Annotated[Start | Run | Stop, Field(discriminator="kind")]
FromChild: TypeAlias = Annotated[Begun | Moved | Ended, Field(discriminator="kind")]

_from_runner: TypeAdapter[Start | Run | Stop] = TypeAdapter(FromRunner)
_from_child: TypeAdapter[Begun | Moved | Ended] = TypeAdapter(FromChild)


def frame_for_child(message: Start | Run | Stop) -> bytes:
    """*message* with its length."""
    return _framed(_from_runner.dump_json(message))


def frame_for_runner(message: Begun | Moved | Ended) -> bytes:
    """*message* with its length."""
    return _framed(_from_child.dump_json(message))


def read_in_child(body: bytes) -> Start | Run | Stop:
    """What the runner said."""
    return _from_runner.validate_json(body)


def read_in_runner(body: bytes) -> Begun | Moved | Ended:
    """What a child said. Raises Broken."""
    try:
        return _from_child.validate_json(body)
    except pydantic.ValidationError as error:
        raise Broken(f"it said {body[:80]!r}: {error.errors()[0]['msg']}") from None


def _framed(body: bytes) -> bytes:
    return HEADER.pack(len(body)) + body
