"""What one app has declared: tasks, subscriptions, the events that it publishes, and how old payloads become new ones."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, TypeAlias

from psycopg import Connection

from jobrunner.errors import BadName, ConfigError
from jobrunner.policy.events import Event, type_of
from jobrunner.policy.models import Job
from jobrunner.policy.versions import Upcasters
from jobrunner.telemetry import Telemetry
from jobrunner.worker.subscription import Subscription
from jobrunner.worker.task import Runnable

Lend: TypeAlias = Callable[[], AbstractContextManager[Connection[Any]]]
"""A connection for one statement that commits by itself."""


class Host(Protocol):
    """What a guest may know of the runner that it lives with."""

    @property
    def dsn(self) -> str:
        """Where its jobs are."""

    @property
    def size(self) -> int:
        """Jobs at a time."""

    @property
    def queues(self) -> list[str] | None:
        """What it reads; None: every queue."""

    @property
    def runner_id(self) -> int:
        """Under which id it is known now."""

    @property
    def telemetry(self) -> Telemetry:
        """Whom to tell what happens."""

    def end(self, why: str) -> None:
        """Stop gracefully."""


class Guest(Protocol):
    """What is there before a runner's first claim, and until after its last settlement."""

    def visit(self, host: Host) -> AbstractAsyncContextManager[Iterable[Coroutine[Any, Any, None]]]:
        """Live with *host*; what it yields is run until the runner stops."""

    def rehearse(self, lend: Lend) -> AbstractContextManager[None]:
        """Be there for a drain of `jobrunner.testing`: what it writes itself goes through *lend*."""


class Registry:
    """The names of one service."""

    def __init__(self, name: str) -> None:
        if not name:
            raise BadName("app", name, "must not be empty")
        Job(f"{name}.x")  # a name that no task of it could have is refused here
        self.name = name
        """Prefix of its task names, and the source of its events."""
        self.tasks: dict[str, Runnable] = {}
        """What its runners run, by full name: tasks, subscriptions, streams, sagas."""
        self.published: dict[str, type[Event]] = {}
        """The classes of events that it says it publishes, by type."""
        self.guests: list[Guest] = []
        """What lives with its runners: see `include`."""
        self._upcasters = Upcasters()

    @property
    def subscriptions(self) -> list[Subscription[Any, Any]]:
        """The subscriptions, streams and sagas among its tasks, in the order of their declaration."""
        return [one for one in self.tasks.values() if isinstance(one, Subscription)]

    def publishes(self, *classes: type[Event]) -> None:
        """Say which events this app publishes; its AsyncAPI document has them, beside those that it subscribes to.

        Raises:
            ConfigError: a class without a name, or two of one type.
        """
        for cls in classes:
            self._declare(self.published, cls)

    @staticmethod
    def _declare(known: dict[str, type[Event]], cls: type[Event]) -> None:
        declared = type_of(cls)
        if known.setdefault(declared.name, cls) is not cls:
            raise ConfigError(f"event {declared.name}", "has two classes in this app: give them different types")

    def _add(self, runnable: Runnable) -> None:
        if runnable.name in self.tasks:
            raise ConfigError(f"task {runnable.name}", "is registered already: give one of them another name=")
        self.tasks[runnable.name] = runnable
