"""One step of a saga, decided: a pure handler reads and changes its `Saga`, which collects what should happen; worker.saga does it.

running ──complete──► completed
   │
   └──compensate──► compensating ──every compensation has run──► compensated
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar, Unpack

import pydantic

from jobrunner.errors import ConfigError, InvalidArguments
from jobrunner.policy.durations import duration
from jobrunner.policy.envelope import Envelope
from jobrunner.policy.events import Event
from jobrunner.policy.models import Job, Options
from jobrunner.policy.payload import encode
from jobrunner.policy.text import clean
from jobrunner.policy.versions import problems

S = TypeVar("S", bound=pydantic.BaseModel)

_REASON_BYTES = 512


class Status(StrEnum):
    """Where a saga is; the stored word."""

    RUNNING = "running"
    """It waits for events or its timeout."""
    COMPLETED = "completed"
    """A handler said so: over."""
    COMPENSATING = "compensating"
    """What it has done is being undone."""
    COMPENSATED = "compensated"
    """Everything that undoes it has run: over."""


@dataclass(frozen=True, slots=True)
class Published:
    """One event that a step publishes."""

    event: Event
    """What happened."""
    key: str | None = None
    """Instead of what its class says."""
    subject: str | None = None
    """Instead of what its class says."""


class Effects:
    """What a handler wants to happen: nothing does before it has returned, and then everything, in one transaction."""

    def __init__(self, key: str, *, status: Status | None = None, envelope: Envelope | None = None) -> None:
        self.key = key
        """Of the event: what the saga is found by."""
        self.status = status
        """Of the saga; None where there is none."""
        self.envelope = envelope
        """Of the event that this step handles; None at a timeout."""
        self.jobs: list[Job] = []
        """What is to be enqueued, in order."""
        self.events: list[Published] = []
        """What is to be published, in order."""

    def enqueue(self, job: Job, **options: Unpack[Options]) -> None:
        """Enqueue *job* when the step commits, with options as `app.enqueue` takes them."""
        self.jobs.append(job.using(**options) if options else job)

    def publish(self, event: Event, *, key: str | None = None, subject: str | None = None) -> None:
        """Publish *event* when the step commits."""
        self.events.append(Published(event, key, subject))


class Saga(Effects, Generic[S]):
    """One running saga in the hands of a handler. To test a handler, make one, call it, look at what it collected."""

    status: Status

    def __init__(self, state: S, key: str = "", *, name: str = "", envelope: Envelope | None = None) -> None:
        super().__init__(key, status=Status.RUNNING, envelope=envelope)
        self.line = line(name, key)
        """The key of the jobs that undo it, and of those that have to be over before that."""
        self.state = state
        """What it remembers; change it, or put another one here. Validated and stored when the handler has returned."""
        self.compensations: list[Job] = []
        """What this step pushes on the stack."""
        self.reason: str | None = None
        """Why it was compensated."""
        self.sets_timeout = False
        """Whether this step changes the timeout; a step that does not leaves the one that runs."""
        self.timeout_in: timedelta | None = None
        """What it is then, from the end of the step by the server's clock; None clears it."""

    def enqueue(self, job: Job, *, undo: Job | None = None, **options: Unpack[Options]) -> None:
        """Enqueue *job* when the step commits, with options as `app.enqueue` takes them.

        *undo*: as `compensate_with`, and it never overtakes *job*: both are in the saga's line, where one runs after another.

        Raises:
            ConfigError: with *undo*, a key, a unique key or a time of its own.
        """
        if undo is not None:
            job = _bare(job.using(**options)).using(key=self.line)
            options = {}
            self.compensate_with(undo)
        super().enqueue(job, **options)

    def compensate_with(self, job: Job) -> None:
        """Remember *job* as what undoes what the saga does now; it runs only if the saga is compensated, the latest first.

        Raises:
            ConfigError: a key, a unique key or a time of its own.
        """
        self.compensations.append(_bare(job))

    def timeout(self, after: str | float | timedelta | None) -> None:
        """Call the `on_timeout` handler *after* this long ("15m"), instead of any timeout so far; None clears it.

        It survives later steps; only another call, the end of the saga, or its firing changes it.

        Raises:
            BadDuration: it cannot be read.
        """
        self.sets_timeout = True
        self.timeout_in = None if after is None else duration(after, what="the timeout of a saga")

    def complete(self) -> None:
        """It is over, and all is well: nothing will be undone. Its timeout is cleared."""
        self._end(Status.COMPLETED)

    def compensate(self, reason: str) -> None:
        """Undo what it has done: everything on the stack is enqueued at once, in reverse, and runs one after another.

        What this step pushed is undone too. *reason* is for the person who looks at it.
        """
        self._end(Status.COMPENSATING)
        self.reason = clean(reason, _REASON_BYTES)

    def _end(self, status: Status) -> None:
        if self.status not in (Status.RUNNING, status):
            raise ConfigError(
                f"saga {self.key}", f"cannot be {status} and {self.status} in one step: return after the first"
            )
        self.status = status


def line(name: str, key: str) -> str:
    """The key of the jobs that undo a saga."""
    return f"saga {name} {key}"


def _bare(job: Job) -> Job:
    if job.key is not None or job.unique_key is not None or job.delay is not None or job.run_at is not None:
        problem = (
            "has a key, a unique key or a time of its own; what a saga undoes runs in its own line, one after another"
        )
        raise ConfigError(f"the job {job.task}", problem)
    return job


Step = Callable[[Saga[S], Any], None]
"""Handles one event of a running saga."""


class Part(StrEnum):
    """What an event is to its saga."""

    START = "start"
    """It begins one."""
    STEP = "step"
    """It goes on with one."""
    STRAY = "stray"
    """No saga of its key runs, and a handler wants to know."""
    NOTHING = "nothing"
    """It is ignored."""


@dataclass(slots=True)
class Handlers(Generic[S]):
    """The handlers of one kind of saga."""

    starts: dict[str, Step[S]] = field(default_factory=dict)
    """By event type."""
    on: dict[str, Step[S]] = field(default_factory=dict)
    """By event type."""
    timeout: Callable[[Saga[S]], None] | None = None
    """Called when the timeout is due."""
    not_found: Callable[[Effects, Any], None] | None = None
    """Called for an event when no saga of its key runs."""

    def part(self, event_type: str, status: Status | None) -> Part:
        """What an event of this type is to a saga of this *status*, None where there is none. A running saga takes a second
        start as an ordinary step where `on` has that type too, and ignores it elsewhere; one that is over never starts again."""
        if status is Status.RUNNING:
            return Part.STEP if event_type in self.on else Part.NOTHING
        if status is None and event_type in self.starts:
            return Part.START
        return Part.STRAY if self.not_found else Part.NOTHING


def load(model: type[S], text: str, name: str) -> S:
    """The state of saga *name* as it was stored.

    Raises:
        InvalidArguments: it does not fit the model as it is now.
    """
    try:
        return model.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise InvalidArguments(name, [f"the state does not fit {model.__name__}", *problems(error)]) from None


def dump(model: type[S], state: S, name: str) -> str:
    """*state* as JSON text that `load` takes back: read once more here, because a start begins with an empty one.

    Raises:
        InvalidArguments: a required field was never set, or a value does not fit.
        InvalidJob: what no JSON column can hold.
    """
    # Without pydantic's warnings: they are about what `load` refuses.
    text = encode(state.model_dump(mode="json", by_alias=True, warnings=False), name, root="state")
    load(model, text, name)
    return text
