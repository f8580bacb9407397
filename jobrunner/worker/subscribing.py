"""The event side of an app that declares: subscriptions, streams, upcasters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar, overload

from jobrunner.errors import ConfigError
from jobrunner.policy.backoff import Backoff
from jobrunner.policy.durations import duration
from jobrunner.policy.events import Event, check_type, type_of
from jobrunner.policy.models import Json, check_integer
from jobrunner.policy.subscriptions import Declaration, OnDead, OnLag, Start
from jobrunner.policy.versions import Upcaster
from jobrunner.worker.context import Context
from jobrunner.worker.registry import Registry
from jobrunner.worker.stream import Stream
from jobrunner.worker.subscription import Subscription, handled

E = TypeVar("E", bound=Event)
R = TypeVar("R")
U = TypeVar("U", bound=Upcaster)

_MOST_EVENTS = 10_000  # in one batch of a stream


class Subscribes(Protocol):
    """What `app.on("order.*")` gives: it makes a subscription of the function below it."""

    def __call__(self, function: Callable[[Context, Any], R], /) -> Subscription[Any, R]:
        """The subscription."""


class Subscribing(Registry):
    """What an app can declare about events."""

    @overload
    def on(
        self,
        event: type[E],
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        retry: Backoff | None = None,
        timeout: str | float | None = None,
        ordered: bool = False,
        on_dead: OnDead | None = None,
        start: Start = "now",
        match: Mapping[str, Json] | None = None,
        concurrency: int | None = None,
        replay: bool = True,
        on_lag: OnLag = "hold",
        on_lease_uncertain: Literal["cancel", "continue"] = "cancel",
    ) -> Callable[[Callable[[Context, E], R]], Subscription[E, R]]: ...

    @overload
    def on(
        self,
        /,
        *what: type[Event] | str,
        name: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        retry: Backoff | None = None,
        timeout: str | float | None = None,
        ordered: bool = False,
        on_dead: OnDead | None = None,
        start: Start = "now",
        match: Mapping[str, Json] | None = None,
        concurrency: int | None = None,
        replay: bool = True,
        on_lag: OnLag = "hold",
        on_lease_uncertain: Literal["cancel", "continue"] = "cancel",
    ) -> Subscribes: ...

    def on(
        self,
        /,
        *what: type[Event] | str,
        name: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        retry: Backoff | None = None,
        timeout: str | float | None = None,
        ordered: bool = False,
        on_dead: OnDead | None = None,
        start: Start = "now",
        match: Mapping[str, Json] | None = None,
        concurrency: int | None = None,
        replay: bool = True,
        on_lag: OnLag = "hold",
        on_lease_uncertain: Literal["cancel", "continue"] = "cancel",
    ) -> Any:
        """Subscribe a function to events: classes, or patterns like "order.*" and "#" (which never match jobrunner.…).

        The function takes the context and the event: an instance of the class that its annotation names, or the payload as a
        dict. `app.function` unless *name* is given; the subscription lives in the database under that name, is made by the
        first runner that has it, and is changed by `jobrunner subs apply` only.

        *queue*: "events" unless given; with *concurrency*, the most of its deliveries at a time in one runner, its own name.
        *ordered*: one at a time per key, in the order of the log, retries included; an event without a key has no order.
        *on_dead*: "skip"; "block_key" where ordered; "pause". *match*: headers that an event must have. *start*: "now",
        "beginning", an instant or a position. *replay*: whether it takes replays. *on_lag*: what retention does when it is
        behind.

        Raises:
            ConfigError: the name is taken, what cannot be right together, or a version without a way up (see `upcast`).
            BadName, OutOfBounds: names, patterns and numbers that cannot be.
        """

        def register(function: Callable[..., Any]) -> Subscription[Any, Any]:
            full = name or f"{self.name}.{function.__name__}"
            if concurrency is not None:
                check_integer("concurrency", concurrency, 1, 10_000)
            declaration = Declaration(
                name=full,
                app=self.name,
                mode="queue",
                types=_types(what),
                match=match,
                queue=queue or (full if concurrency is not None else "events"),
                priority=priority,
                retry=retry or Backoff(),
                ordered=ordered,
                on_dead=on_dead or ("block_key" if ordered else "skip"),
                replay=replay,
                on_lag=on_lag,
                start=start,
            )
            taken = handled(full, function, what, many=False)
            made: Subscription[Any, Any] = Subscription(
                declaration,
                function,
                self._readable(taken.classes),
                self._upcasters,
                timeout=_limit(full, timeout),
                on_lease_uncertain=_uncertain(full, on_lease_uncertain),
                slots=concurrency,
                takes_any=taken.takes_any,
                parameter=taken.parameter,
            )
            self._add(made)
            return made

        return register

    def stream(
        self,
        /,
        *what: type[Event] | str,
        name: str | None = None,
        batch: int = 100,
        queue: str = "events",
        priority: int = 0,
        retry: Backoff | None = None,
        timeout: str | float | None = None,
        start: Start = "now",
        match: Mapping[str, Json] | None = None,
        replay: bool = True,
        on_lag: OnLag = "hold",
        on_lease_uncertain: Literal["cancel", "continue"] = "cancel",
    ) -> Callable[[Callable[[Context, Any], Any]], Stream]:
        """Subscribe a function to batches from the log: a list of at most *batch* events, in order, one batch at a time.

        The cursor moves in the transaction of `ctx.transaction()`, with the handler's writes and the job's completion: each event
        counts exactly once there. A handler that does not use it sees a batch again after a crash. A batch that fails is
        tried again; one that is dead pauses the stream (`op_skip` lets it pass over an event). The rest is as in `on`.
        """

        def register(function: Callable[..., Any]) -> Stream:
            full = name or f"{self.name}.{function.__name__}"
            check_integer("batch", batch, 1, _MOST_EVENTS)
            declaration = Declaration(
                name=full,
                app=self.name,
                mode="stream",
                types=_types(what),
                match=match,
                queue=queue,
                priority=priority,
                retry=retry or Backoff(),
                ordered=False,
                on_dead="pause",
                replay=replay,
                on_lag=on_lag,
                start=start,
            )
            taken = handled(full, function, what, many=True)
            made = Stream(
                declaration,
                function,
                self._readable(taken.classes),
                self._upcasters,
                timeout=_limit(full, timeout),
                on_lease_uncertain=_uncertain(full, on_lease_uncertain),
                slots=None,
                takes_any=taken.takes_any,
                parameter=taken.parameter,
                batch=batch,
            )
            self._add(made)
            return made

        return register

    def upcast(self, what: type[Event] | str, version: int) -> Callable[[U], U]:
        """Register a function that makes a payload of *version* one of the next: takes the data, returns the data.

        Pure, and declared above the first subscription to the type: that checks that every version leads to the newest.
        """
        name = what if isinstance(what, str) else type_of(what).name
        check_type(name)
        check_integer("version", version, 1, 32766)

        def register(step: U) -> U:
            self._upcasters.add(name, version, step)
            return step

        return register

    def _readable(self, classes: dict[str, type[Event]]) -> dict[str, type[Event]]:
        for cls in classes.values():
            self._upcasters.check(type_of(cls))
        return classes


def _types(what: tuple[type[Event] | str, ...]) -> tuple[str, ...]:
    return tuple(one if isinstance(one, str) else type_of(one).name for one in what)


def _limit(name: str, timeout: str | float | None) -> timedelta | None:
    limit = None if timeout is None else duration(timeout, what=f"the timeout of {name}")
    if limit is not None and not limit:
        raise ConfigError(f"the timeout of {name}", "must be longer than zero; leave it out for none")
    return limit


def _uncertain(name: str, what: Literal["cancel", "continue"]) -> Literal["cancel", "continue"]:
    if what not in ("cancel", "continue"):
        raise ConfigError(f"on_lease_uncertain of {name}", 'must be "cancel" or "continue"')
    return what
