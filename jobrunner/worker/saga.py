"""A saga as a runner sees it: an ordered subscription fed by the events of its handlers, plus two kinds of jobs of its own.

| job of the saga's task | its key                | args                  | what it does                                   |
|------------------------|------------------------|-----------------------|------------------------------------------------|
| a delivery             | NAME KEY               | position, recorded_at | starts the saga, or goes on with it            |
| its timeout            | NAME KEY               | timeout: the deadline | calls on_timeout; a late one is dropped        |
| the end                | saga NAME KEY, behind  | compensated           | says that everything that undoes it has run    |
|                        | all that undoes it     |                       |                                                |

Each is one fenced transaction: hold the row, run the pure handler, write what it decided, end the job.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import pydantic
from psycopg import Connection

from jobrunner.errors import ConfigError, InvalidArguments
from jobrunner.policy.events import Event, type_of
from jobrunner.policy.models import Claimed, Job
from jobrunner.policy.outcomes import Outcome
from jobrunner.policy.saga import Effects, Handlers, Part, Saga, Status, dump, line, load
from jobrunner.policy.subscriptions import Declaration
from jobrunner.policy.versions import Upcasters
from jobrunner.store import sagas
from jobrunner.worker.context import Context
from jobrunner.worker.statements import will_be_prepared
from jobrunner.worker.subscription import Subscription

S = TypeVar("S", bound=pydantic.BaseModel)
E = TypeVar("E", bound=Event)
F = TypeVar("F", bound=Callable[..., None])

_KEY_BYTES = 512  # of a job's key


class Sender(Protocol):
    """What a step needs of its app."""

    def enqueue_many(self, conn: Connection[Any], jobs: Iterable[Job], /) -> list[int | None]:
        """Write them in the transaction."""

    def publish(self, conn: Connection[Any], event: Event, /, *, key: str | None, subject: str | None) -> UUID:
        """Write it in the transaction."""

    def _check(self, job: Job, /) -> None:
        """Raises UnknownTask."""


@dataclass(frozen=True, slots=True, eq=False)
class SagaSubscription(Subscription[Any, None]):
    """The registered form of a `DeclaredSaga`: what its jobs are, and which saga each belongs to."""

    def refuse(self, job: Claimed) -> Outcome | None:
        """As of a subscription; its own jobs carry no event."""
        if job.event is None and not json.loads(job.args).keys().isdisjoint(("timeout", "compensated")):
            return None
        return super(SagaSubscription, self).refuse(job)

    def read(self, job: Claimed) -> dict[str, Any]:
        """What `DeclaredSaga.step` takes.

        Raises:
            InvalidArguments: an event without a key, or what no retry can mend.
        """
        if job.event is not None:
            return {"key": self._usable(job.event.key), "event": self.payload(job.event)}
        args = json.loads(job.args)
        if "compensated" in args:
            return {"key": self._usable((job.key or "").removeprefix(line(self.name, "")))}
        try:
            due = datetime.fromisoformat(args["timeout"])
        except (TypeError, ValueError):
            raise InvalidArguments(self.name, [f"the timeout {args['timeout']!r} is not an instant"]) from None
        return {"key": self._usable((job.key or "").removeprefix(f"{self.name} ")), "due": due}

    def _usable(self, key: str | None) -> str:
        if not key:
            raise InvalidArguments(
                self.name, ["the event has no key, and that is what its saga is found by: give its class key="]
            )
        if len(line(self.name, key).encode()) > _KEY_BYTES:
            most = _KEY_BYTES - len(line(self.name, "").encode())
            raise InvalidArguments(
                self.name, [f"the key of the event must have at most {most} bytes to be that of a saga"]
            )
        return key


class DeclaredSaga(Generic[S]):
    """What `app.saga` gives: decorators for the handlers of one kind of saga. Handlers are plain, pure, sync functions."""

    def __init__(
        self,
        name: str,
        state: type[S],
        declare: Callable[[tuple[str, ...]], Declaration],
        register: Callable[[SagaSubscription], None],
        upcasters: Upcasters,
        sender: Sender,
    ) -> None:
        self.name = name
        """Of the saga, its subscription and its task."""
        self.state = state
        """The model of what it remembers."""
        self.handlers: Handlers[S] = Handlers()
        """What was decorated."""
        self._declare, self._register, self._upcasters, self._sender = declare, register, upcasters, sender
        self._classes: dict[str, type[Event]] = {}

    def starts(self, event: type[E], /) -> Callable[[Callable[[Saga[S], E], None]], Callable[[Saga[S], E], None]]:
        """Register a handler that begins a saga for the key of *event*; one that runs or is over is not begun again.

        Raises:
            ConfigError: the name is taken, the handler is async, or there is one for this event already.
        """
        return lambda function: self._add(self.handlers.starts, event, function)

    def on(self, event: type[E], /) -> Callable[[Callable[[Saga[S], E], None]], Callable[[Saga[S], E], None]]:
        """Register a handler of *event* for the saga that runs under its key.

        Raises:
            ConfigError: as `starts`; or nothing starts this saga yet.
        """
        if not self.handlers.starts:
            raise ConfigError(f"saga {self.name}", "has nothing that starts it: declare @….starts(…) first")
        return lambda function: self._add(self.handlers.on, event, function)

    def on_timeout(self, function: Callable[[Saga[S]], None], /) -> Callable[[Saga[S]], None]:
        """Register what happens when the time is over that a handler has set by `saga.timeout`."""
        self.handlers.timeout = self._sync(function, self.handlers.timeout)
        return function

    def not_found(self, function: Callable[[Effects, E], None], /) -> Callable[[Effects, E], None]:
        """Register what happens to an event when no saga of its key runs: `effects.status` says whether one has run."""
        self.handlers.not_found = self._sync(function, self.handlers.not_found)
        return function

    def _add(self, known: dict[str, Callable[[Saga[S], Any], None]], event: type[E], function: F) -> F:
        event_type = type_of(event)
        self._upcasters.check(event_type)
        if self._classes.setdefault(event_type.name, event) is not event:
            raise ConfigError(
                f"saga {self.name}", f"has two classes for event {event_type.name}: give them different types"
            )
        known[event_type.name] = self._sync(function, known.get(event_type.name))
        self._register(
            SagaSubscription(
                self._declare(tuple(sorted(self._classes))),
                self.step,
                dict(self._classes),
                self._upcasters,
                timeout=None,
                on_lease_uncertain="cancel",
                slots=None,
                takes_any=False,
                parameter="event",
            )
        )
        return function

    def _sync(self, function: F, before: object) -> F:
        if inspect.iscoroutinefunction(function):
            problem = f"cannot have {function.__name__} as a handler: it decides and does no I/O, so it is not async"
            raise ConfigError(f"saga {self.name}", problem)
        if before is not None:
            raise ConfigError(f"saga {self.name}", f"has a handler already for what {function.__name__} handles")
        return function

    def step(self, ctx: Context, key: str, event: Event | None = None, due: datetime | None = None) -> None:
        """Run one of its jobs: what the table above says, in one transaction."""
        with ctx.transaction() as conn:
            found = sagas.lock(conn, self.name, key, fenced=ctx.fenced)
            if event is not None:
                self._arrived(ctx, conn, key, found, event)
            elif due is not None:
                self._is_due(ctx, conn, key, found, due)
            elif not sagas.end_compensation(conn, self.name, key):
                ctx.logger.info("saga does not compensate any more", extra={"saga": self.name, "key": key})

    def _arrived(self, ctx: Context, conn: Connection[Any], key: str, found: sagas.Stored | None, event: Event) -> None:
        event_type = type_of(event).name
        status = None if found is None else found.status
        part = self.handlers.part(event_type, status)
        if part is Part.START:
            # Without its required fields: the handler sets them, and what is missing then is refused.
            saga = Saga(self.state.model_construct(), key, name=self.name, envelope=ctx.envelope)
            self.handlers.starts[event_type](saga, event)
            self._save(ctx, conn, saga, found)
        elif part is Part.STEP:
            assert found is not None
            saga = Saga(load(self.state, found.state, self.name), key, name=self.name, envelope=ctx.envelope)
            self.handlers.on[event_type](saga, event)
            self._save(ctx, conn, saga, found)
        elif part is Part.STRAY:
            assert self.handlers.not_found is not None
            effects = Effects(key, status=status, envelope=ctx.envelope)
            self.handlers.not_found(effects, event)
            self._send(conn, effects)
        else:
            said = {"saga": self.name, "key": key, "event_type": event_type, "status": status}
            ctx.logger.info("event ignored: no saga waits for it", extra=said)

    def _is_due(self, ctx: Context, conn: Connection[Any], key: str, found: sagas.Stored | None, due: datetime) -> None:
        if found is None or found.status is not Status.RUNNING or found.timeout_at != due:
            ctx.logger.debug("late timeout dropped", extra={"saga": self.name, "key": key})
            return
        if self.handlers.timeout is None:
            raise _no_timeout_handler(self.name)
        saga = Saga(load(self.state, found.state, self.name), key, name=self.name)
        saga.timeout(None)  # it has fired; the handler may set the next
        self.handlers.timeout(saga)
        self._save(ctx, conn, saga, found)

    def _save(self, ctx: Context, conn: Connection[Any], saga: Saga[S], found: sagas.Stored | None) -> None:
        if saga.timeout_in is not None and self.handlers.timeout is None:
            raise _no_timeout_handler(self.name)
        for job in saga.compensations:
            self._sender._check(job)
        self._send(conn, saga)  # first: what it does stands in line before what undoes it
        sagas.save(
            conn,
            self.name,
            saga,
            dump(self.state, saga.state, self.name),
            starts=found is None,
            correlation_id=ctx.correlation_id if found is None else found.correlation_id,
            notify=not will_be_prepared(conn),
        )

    def _send(self, conn: Connection[Any], effects: Effects) -> None:
        if effects.jobs:
            self._sender.enqueue_many(conn, effects.jobs)
        for published in effects.events:
            self._sender.publish(conn, published.event, key=published.key, subject=published.subject)


def _no_timeout_handler(name: str) -> ConfigError:
    return ConfigError(f"saga {name}", "has a timeout and no handler for it: declare one with @….on_timeout")
