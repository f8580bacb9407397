"""The values that travel: a call (`Job`) on its way in, one claimed row (`Claimed`) on its way to a handler.

`Json`, `encode` and `Progress` belong to them and are importable from here too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict, Unpack

from jobrunner.errors import BadName, OutOfBounds
from jobrunner.policy.durations import LONGEST, duration
from jobrunner.policy.payload import PAYLOAD_LIMIT, Json, encode
from jobrunner.policy.progress import Progress
from jobrunner.policy.recorded import Batch, Recorded

__all__ = ["MAX_ATTEMPTS", "PAYLOAD_LIMIT", "Claimed", "Job", "Json", "Options", "Progress", "encode"]

MAX_ATTEMPTS = 1000
"""The largest `max_attempts`."""

_NAME_BYTES = 200  # task, queue
_KEY_BYTES = 512  # key, unique_key, subject
_CONTROL = {"Cc", "Zl", "Zp"}  # the C library, which PostgreSQL asks, counts U+2028 and U+2029 as control characters


class Options(TypedDict, total=False):
    """What `Job.using` and `enqueue` take by keyword; an option given as None is unset again."""

    queue: str | None
    priority: int | None
    run_at: datetime | None
    delay: str | float | timedelta | None
    key: str | None
    unique_key: str | None
    unique_until: Literal["start", "finish"]
    subject: str | None
    version: int | None
    max_attempts: int | None
    headers: Mapping[str, Json]


# No slots: `carrying` copies all fields at once, which slots cannot do.
@dataclass(frozen=True)
class Job:
    """One call of a task, as a value: for enqueue, enqueue_many, schedules, groups and assertions.

    None means what the task declares, else the default. Checked where it is built, by the bounds of the SQL function;
    arguments are checked when they are encoded.

    Raises:
        BadName: task, queue, key, unique_key or subject empty, too long in bytes or with control characters.
        OutOfBounds: any other option, or run_at beside delay.
    """

    task: str
    """Full name, "shop.send_receipt", 1 to 200 bytes."""
    args: Mapping[str, Json] = field(default_factory=dict)
    """Arguments by name, JSON, at most 256 kB."""
    queue: str | None = None
    """1 to 200 bytes."""
    priority: int | None = None
    """A smallint; larger runs first."""
    run_at: datetime | None = None
    """Aware; not before this instant."""
    delay: timedelta | None = None
    """Not before this long after the enqueue, by the server's clock; 0 to 5 years."""
    key: str | None = None
    """Jobs of one key run one at a time, in order; 1 to 512 bytes."""
    unique_key: str | None = None
    """While a job of this task waits under it, another enqueue returns that job; 1 to 512 bytes."""
    unique_until: Literal["start", "finish"] = "start"
    """How long the unique key is held."""
    subject: str | None = None
    """What the job is about, "order:42"; 1 to 512 bytes."""
    version: int | None = None
    """Of the arguments, 1 to 32767."""
    max_attempts: int | None = None
    """Failures after which it is dead, 1 to 1000."""
    headers: Mapping[str, Json] = field(default_factory=dict)
    """Beside the arguments: trace context and the like."""

    def __post_init__(self) -> None:
        check_name("task", self.task, _NAME_BYTES)
        if self.queue is not None:
            check_name("queue", self.queue, _NAME_BYTES)
        if self.key is not None:
            check_name("key", self.key, _KEY_BYTES)
        if self.unique_key is not None:
            check_name("unique_key", self.unique_key, _KEY_BYTES)
        if self.subject is not None:
            check_name("subject", self.subject, _KEY_BYTES)
        if self.priority is not None:
            check_integer("priority", self.priority, -32768, 32767)
        if self.version is not None:
            check_integer("version", self.version, 1, 32767)
        if self.max_attempts is not None:
            check_integer("max_attempts", self.max_attempts, 1, MAX_ATTEMPTS)
        if self.unique_until != "start" and self.unique_until != "finish":
            raise OutOfBounds(what="unique_until", value=self.unique_until, bounds='"start" or "finish"')
        if self.run_at is not None or self.delay is not None:
            _check_time(self.run_at, self.delay)

    def using(self, **options: Unpack[Options]) -> Job:
        """This call with *options* instead of its own; a delay may be "5m" or seconds.

        Raises:
            BadDuration: a delay that cannot be read.
            InvalidJob: as when building one.
        """
        changes: dict[str, Any] = dict(options)
        if (delay := options.get("delay")) is not None:
            changes["delay"] = duration(delay, what="delay")
        return replace(self, **changes)

    def carrying(self, args: Mapping[str, Json]) -> Job:
        """This call with *args* instead of its own.

        Three times as fast as building one, because what was checked when this one was built is not checked again.
        """
        job = object.__new__(Job)
        job.__dict__.update(self.__dict__, args=args, headers=dict(self.headers))
        return job


# The checks take objects: many callers have no type checker, and the next error would be one from inside SQL.
def check_name(what: str, value: object, limit: int) -> None:
    """Raise BadName unless *value* is text of 1 to *limit* bytes without control characters."""
    if not isinstance(value, str):
        raise BadName(what, value, "must be text")
    if value.isascii() and value.isprintable() and 0 < len(value) <= limit:
        return  # nearly every name, without encoding it
    if not value:
        raise BadName(what, value, "must not be empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadName(what, value, "must be valid Unicode, without lone surrogates") from None
    if size > limit:
        raise BadName(what, value, f"must have at most {limit} bytes and has {size}")
    if any(unicodedata.category(character) in _CONTROL for character in value):
        raise BadName(what, value, "must not contain control characters")


def check_integer(what: str, value: object, least: int, most: int) -> None:
    """Raise OutOfBounds unless *value* is a whole number in these bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise OutOfBounds(what, value, f"a whole number from {least} to {most}")


def _check_time(run_at: object, delay: object) -> None:
    if run_at is not None and delay is not None:
        raise OutOfBounds(what="the start of a job", value=(run_at, delay), bounds="either run_at or delay, not both")
    if run_at is not None and (not isinstance(run_at, datetime) or run_at.utcoffset() is None):
        raise OutOfBounds(what="run_at", value=run_at, bounds="a datetime with a time zone")
    if delay is not None and (not isinstance(delay, timedelta) or not timedelta(0) <= delay <= LONGEST):
        raise OutOfBounds(what="delay", value=delay, bounds="a timedelta from 0 to 5 years (1800 days)")


# Not frozen: one is built per claimed row, tens of thousands a second, and object.__setattr__ costs seven times more.
@dataclass(slots=True)
class Claimed:
    """One row as claimed, in the column order of the claim. Trusted: the payload is validated later, once."""

    id: int
    """Of the job."""
    task: str
    """Full name."""
    version: int
    """Of the payload."""
    queue: str
    """Where it was claimed."""
    priority: int
    """Larger runs first."""
    seq: int
    """Place in the ready order."""
    attempt: int
    """Starts so far, this one counted: the fence."""
    failures: int
    """Failures before this run; bounded by max_attempts."""
    crashes: int
    """Runners that were lost under it, and processes of its own that it has killed."""
    max_attempts: int
    """Failures that make it dead."""
    key: str | None
    """What orders it, if anything."""
    args: str
    """JSON text."""
    headers: str | None
    """JSON text of what is beside the arguments; None for nothing."""
    run_at: datetime
    """When it was due."""
    created_at: datetime
    """When it was enqueued."""
    started_at: datetime
    """When this run was claimed."""
    event: Recorded | None = None
    """Of a delivery: what it carries. None for every other job, and when the log no longer has it."""
    batch: Batch | None = None
    """Of a stream's job: what it is to read."""
