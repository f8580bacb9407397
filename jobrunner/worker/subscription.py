"""A subscription: a function that events feed, and how its deliveries are read, upcast and validated. It runs like a task."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from jobrunner.errors import ConfigError, InvalidArguments
from jobrunner.policy.backoff import Backoff
from jobrunner.policy.events import Event, type_of
from jobrunner.policy.models import Claimed, Json
from jobrunner.policy.outcomes import Outcome, Reject, TooNew
from jobrunner.policy.recorded import Recorded
from jobrunner.policy.subscriptions import Declaration
from jobrunner.policy.versions import Upcasters
from jobrunner.worker.context import Context

E = TypeVar("E")
R = TypeVar("R")

ANY_VERSION = 32767


@dataclass(frozen=True, slots=True, eq=False)
class Subscription(Generic[E, R]):
    """A registered handler of events. Calling it calls the plain function."""

    declaration: Declaration
    """What the table is told."""
    function: Callable[[Context, E], R]
    """What was decorated."""
    classes: Mapping[str, type[Event]]
    """How the payload of a type is read; a type without a class comes as the dict that was published."""
    upcasters: Upcasters
    """Of its app."""
    timeout: timedelta | None
    """How long one run may take."""
    on_lease_uncertain: Literal["cancel", "continue"]
    """What happens to a run when the runner cannot be sure to hold it any more."""
    slots: int | None
    """At most so many of its deliveries at a time in one runner; None: as many as there is room for."""
    takes_any: bool
    """Whether the handler also takes payloads without a class."""
    parameter: str
    """The name of the handler's second parameter."""
    is_async: bool = field(init=False)
    """Whether the handler is a coroutine function; a plain one runs in a thread."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_async", inspect.iscoroutinefunction(self.function))

    def __call__(self, ctx: Context, event: E, /) -> R:
        """Call the function itself."""
        return self.function(ctx, event)

    @property
    def name(self) -> str:
        """Full name, `app.function` unless given; also the task of its deliveries."""
        return self.declaration.name

    @property
    def queue(self) -> str:
        """Where its deliveries wait."""
        return self.declaration.queue

    @property
    def retry(self) -> Backoff:
        """How often and when a delivery is tried again."""
        return self.declaration.retry

    @property
    def executor(self) -> Literal["default"]:
        """Deliveries run in the runner."""
        return "default"

    @property
    def version(self) -> int:
        """The newest version of a payload that it can read: a claim takes no newer one."""
        if self.takes_any:
            return ANY_VERSION
        return max(type_of(cls).version for cls in self.classes.values())

    def refuse(self, job: Claimed) -> Outcome | None:
        """What becomes of a delivery that cannot be run whatever its handler does; None when it can."""
        if job.event is None:
            return Reject("expired: the log has no such event (any more)")
        return self.refuse_version(job.event)

    def refuse_version(self, event: Recorded) -> TooNew | None:
        """TooNew when the code of another runner is newer than this."""
        cls = self.classes.get(event.type)
        if cls is None or event.version <= (newest := type_of(cls).version):
            return None
        return TooNew(event.version, newest)

    def read(self, job: Claimed) -> dict[str, Any]:
        """The handler's argument: the payload, upcast and validated.

        Raises:
            InvalidArguments: it does not fit, or an upcaster failed: a retry cannot mend it.
        """
        assert job.event is not None  # refuse has been asked
        return {self.parameter: self.payload(job.event)}

    def payload(self, event: Recorded) -> Any:
        """The payload of *event* as the handler takes it. Raises InvalidArguments."""
        cls = self.classes.get(event.type)
        if cls is None:
            if not self.takes_any:
                known = ", ".join(sorted(self.classes))
                raise InvalidArguments(self.name, [f"the handler takes {known}, and this event is a {event.type}"])
            data: dict[str, Json] = json.loads(event.data)
            return data
        return self.upcasters.instance(cls, event.version, event.data, reader=self.name)

    def as_json(self) -> dict[str, Json]:
        """What the tasks table is told."""
        return {
            "name": self.name,
            "version": self.version,
            "queue": self.queue,
            "priority": self.declaration.priority,
            "max_attempts": self.retry.attempts,
            "retry": self.retry.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Handled:
    """What a handler's second parameter says."""

    parameter: str
    """Its name."""
    classes: dict[str, type[Event]]
    """The event classes that it takes, by type."""
    takes_any: bool
    """Whether it takes the payload of other types too, as a dict."""


def handled(name: str, function: Callable[..., Any], what: Sequence[type[Event] | str], *, many: bool) -> Handled:
    """How *function* takes what it is subscribed to: the classes of *what*, and those of its annotation (*many*: of the items).

    Raises:
        ConfigError: it does not take (ctx, event), or an annotation is neither event classes nor a dict.
    """
    parameters = list(inspect.signature(function).parameters.values())
    shape = f"def f(ctx: Context, {'events: list[OrderPaid]' if many else 'event: OrderPaid'})"
    first_two_plain = len(parameters) >= 2 and all(one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters[:2])
    if not first_two_plain or _wants_more(parameters[2:]):
        raise ConfigError(f"subscription {name}", f"must take the context and what it is subscribed to: {shape}")
    try:
        hint = get_type_hints(function).get(parameters[1].name, Any)
    except NameError as error:
        if any(isinstance(one, str) for one in what):
            raise ConfigError(
                f"subscription {name}", f"has an annotation that cannot be read where it is declared: {error}"
            ) from None
        hint = Any  # a class that is local to a function: it is named in the decorator too
    if many and hint is not Any:
        hint = (*get_args(hint), Any)[0]
    classes = {type_of(cls).name: cls for cls in what if not isinstance(cls, str)}
    if (get_origin(hint) or hint) in (dict, Mapping):
        return Handled(parameters[1].name, {}, takes_any=True)  # it wants payloads as they were published
    takes_any = False
    for one in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if isinstance(one, type) and issubclass(one, Event) and one is not Event:
            classes.setdefault(type_of(one).name, one)
        elif one is Any or (get_origin(one) or one) in (dict, Mapping):
            takes_any = True
        elif one is not Event or not classes:
            shown = getattr(one, "__name__", str(one))
            raise ConfigError(
                f"subscription {name}",
                f"cannot hand out a {shown}: annotate it with event classes, or with dict: {shape}",
            )
    patterns = any(isinstance(one, str) and one not in classes for one in what)
    return Handled(parameters[1].name, classes, patterns and takes_any)


def _wants_more(parameters: list[inspect.Parameter]) -> bool:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(one.default is one.empty and one.kind not in variable for one in parameters)
