"""What one app has declared: tasks, subscriptions, the events that it publishes, and how old payloads become new ones."""

from __future__ import annotations

from typing import Any

from jobrunner.errors import BadName, ConfigError
from jobrunner.policy.events import Event, type_of
from jobrunner.policy.models import Job
from jobrunner.policy.versions import Upcasters
from jobrunner.worker.subscription import Subscription
from jobrunner.worker.task import Runnable


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
