"""A task: a named function, what its arguments must be, and how it is retried. Makes calls (Job) and reads them back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    NotRequired,  # pydantic asks for these below Python 3.12
    ParamSpec,
    Protocol,
    TypeVar,
    get_type_hints,
)

import pydantic
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from jobrunner.errors import ConfigError, InvalidArguments
from jobrunner.policy.backoff import Backoff
from jobrunner.policy.models import Claimed, Job, Json
from jobrunner.policy.outcomes import Outcome, TooNew
from jobrunner.policy.versions import problems
from jobrunner.worker.context import Context

P = ParamSpec("P")
R = TypeVar("R")


class Runnable(Protocol):
    """What a runner runs by name: a task, a subscription, a stream, a saga."""

    @property
    def name(self) -> str:
        """Full name."""

    @property
    def queue(self) -> str:
        """Where its jobs wait."""

    @property
    def version(self) -> int:
        """A claim takes no newer ones."""

    @property
    def retry(self) -> Backoff:
        """How often and when it is tried again."""

    @property
    def timeout(self) -> timedelta | None:
        """How long one run may take."""

    @property
    def on_lease_uncertain(self) -> Literal["cancel", "continue"]:
        """What happens to a run without a sure lease."""

    @property
    def slots(self) -> int | None:
        """At most so many of its jobs at a time in one runner; None: as many as there is room for."""

    @property
    def executor(self) -> Literal["default", "process"]:
        """Whether its jobs run in processes of their own."""

    @property
    def is_async(self) -> bool:
        """A coroutine function; a plain one runs in a thread."""

    @property
    def function(self) -> Callable[..., Any]:
        """What is called with the context and what `read` returns."""

    def refuse(self, job: Claimed) -> Outcome | None:
        """What becomes of a job that cannot be run whatever its handler does; None when it can."""

    def read(self, job: Claimed) -> dict[str, Any]:
        """The arguments by name, validated. Raises InvalidArguments."""

    def as_json(self) -> dict[str, Json]:
        """What the tasks table is told."""


@dataclass(frozen=True, slots=True, eq=False)
class Task(Generic[P, R]):
    """A registered function. Calling it calls the plain function; `job` makes a call of it for enqueue."""

    name: str
    """Full name, `app.function` unless given."""
    function: Callable[Concatenate[Context, P], R]
    """What was decorated."""
    queue: str
    """Where its jobs wait."""
    priority: int
    """Larger runs first."""
    version: int
    """Of its arguments: a runner takes jobs up to this."""
    retry: Backoff
    """How often and when it is tried again."""
    timeout: timedelta | None
    """How long one run may take."""
    on_lease_uncertain: Literal["cancel", "continue"]
    """What happens to a run when the runner cannot be sure to hold it any more (no heartbeat for most of its lease)."""
    slots: int | None
    """At most so many of its jobs at a time in one runner; None: as many as there is room for."""
    executor: Literal["default", "process"]
    """Where the handler runs: on the runner's loop or in a thread, or in a process of its own."""
    is_async: bool = field(init=False)
    """Whether the handler is a coroutine function; a plain one runs in a thread."""
    _arguments: TypeAdapter[dict[str, Any]] = field(init=False, repr=False)
    _signature: inspect.Signature = field(init=False, repr=False)
    _positional: tuple[str, ...] = field(init=False, repr=False)
    _bare: Job = field(init=False, repr=False)

    def __post_init__(self) -> None:
        signature = _without_context(self.name, self.function)
        bare = Job(
            self.name,
            queue=self.queue,
            priority=self.priority,
            version=self.version,
            max_attempts=self.retry.attempts,
        )
        object.__setattr__(self, "is_async", inspect.iscoroutinefunction(self.function))
        object.__setattr__(self, "_signature", signature)
        object.__setattr__(self, "_arguments", _arguments(self.name, self.function, signature))
        object.__setattr__(self, "_positional", _positional(signature))
        object.__setattr__(self, "_bare", bare)

    def __call__(self, ctx: Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self.function(ctx, *args, **kwargs)

    def job(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """A call of this task with exactly its parameters, bound and validated here; wrong ones are type errors too.

        Only what is given is stored: a default stays the code's. Options (delay, key, …) are given to enqueue or by `using`.

        Raises:
            InvalidArguments: names or values that do not fit.
        """
        given = dict(zip(self._positional, args, strict=False), **kwargs)
        try:
            if len(given) < len(args) + len(kwargs):
                raise TypeError("too many arguments, or one of them twice")
            checked = self._arguments.validator.validate_python(given)
            stored = self._arguments.serializer.to_python(checked, mode="json")
        except (TypeError, ValueError) as error:
            raise InvalidArguments(self.name, self._misfits(error, args, kwargs)) from None
        return self._bare.carrying(stored)

    def _misfits(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        # The signature has the better words for names, but takes longer than all the rest of a call that fits.
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as unbound:
            return [str(unbound)]
        return problems(error) if isinstance(error, pydantic.ValidationError) else [str(error)]

    def refuse(self, job: Claimed) -> Outcome | None:
        """What becomes of a job that cannot be run whatever its handler does; None when it can."""
        return TooNew(job.version, self.version) if job.version > self.version else None

    def read(self, job: Claimed) -> dict[str, Any]:
        """The arguments of a stored call, validated again: rows also come from SQL.

        Raises:
            InvalidArguments: they do not fit the function as it is now.
        """
        try:
            return self._arguments.validate_json(job.args)
        except pydantic.ValidationError as error:
            raise InvalidArguments(self.name, problems(error)) from None

    def as_json(self) -> dict[str, Json]:
        """What the tasks table is told."""
        return {
            "name": self.name,
            "version": self.version,
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.retry.attempts,
            "retry": self.retry.as_json(),
        }


def _without_context(name: str, function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise ConfigError(
            f"task {name}", "must take the context as its first parameter, like `def task(ctx: Context, …)`"
        )
    for parameter in parameters[1:]:
        if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise ConfigError(f"task {name}", f"cannot take {parameter}: arguments are stored by name")
    return signature.replace(parameters=parameters[1:])


def _positional(signature: inspect.Signature) -> tuple[str, ...]:
    return tuple(
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    )


def _arguments(name: str, function: Callable[..., Any], signature: inspect.Signature) -> TypeAdapter[dict[str, Any]]:
    try:
        hints: Mapping[str, Any] = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"task {name}", f"has an annotation that cannot be read where it is declared: {error}"
        ) from None
    # A typed dict and not a model: any parameter name will do, it is twice as fast, and what is left out stays out, so that
    # the function's own default applies.
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name, Any)
        fields[parameter.name] = hint if parameter.default is parameter.empty else NotRequired[hint]
    make: Any = TypedDict
    shape = make(f"{name} arguments", fields)
    shape.__pydantic_config__ = ConfigDict(extra="forbid")
    # Constants, because the default makes null of NaN, silently; so it reaches whoever refuses it. And None, because an
    # adapter of a typed dict alone takes no configuration.
    adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(shape | None, config=ConfigDict(ser_json_inf_nan="constants"))
    return adapter
