"""Tasks of procrastinate in an app of jobrunner's: a whole app's, or a blueprint's, so that a service moves task by task."""

from __future__ import annotations

from typing import Any

import procrastinate
from procrastinate import exceptions

from jobrunner.errors import ConfigError
from jobrunner.procrastinate.connector import JobrunnerConnector
from jobrunner.procrastinate.guest import Guest
from jobrunner.worker.registry import Registry


class Home(procrastinate.App):
    """The app of blueprints that no app of procrastinate has."""

    def _register_builtin_tasks(self) -> None:
        """None: procrastinate has one object for them in a process, and each further app would rename it."""


def include(registry: Registry, blueprint: object, namespace: str | None) -> procrastinate.App:
    """Have *registry* run the tasks of *blueprint*; see `App.include`."""
    if not isinstance(blueprint, procrastinate.Blueprint):
        raise ConfigError("include", f"takes a Blueprint or an App of procrastinate, got a {type(blueprint).__name__}")
    try:
        app = _app_of(registry, blueprint, namespace)
    except exceptions.TaskAlreadyRegistered as error:
        raise ConfigError("include", f"finds a name that is taken, give the blueprint a namespace=: {error}") from None
    except ImportError as error:
        raise ConfigError("include", f"cannot import what the app has in its import_paths: {error}") from error
    if not blueprint.tasks:
        raise ConfigError("include", "finds no tasks in the blueprint: import the modules that declare them before")
    guest = Guest(app, blueprint)
    for handler in guest.handlers:
        registry._add(handler)
    registry.guests.append(guest)
    return app


def _app_of(registry: Registry, blueprint: procrastinate.Blueprint, namespace: str | None) -> procrastinate.App:
    """The app of procrastinate that the tasks belong to: their own, or one that is made for them here."""
    owner: Any = blueprint
    if not isinstance(blueprint, procrastinate.App):
        owner = next((task.blueprint for task in blueprint.tasks.values()), None)
    if isinstance(owner, procrastinate.App):
        if namespace is not None:
            raise ConfigError(
                "namespace", "is for a blueprint that has no app yet: these tasks have their names already"
            )
        app: Any = owner
        app.perform_import_paths()
        return owner
    homes = [guest.app for guest in registry.guests if isinstance(guest, Guest) and isinstance(guest.app, Home)]
    home = homes[0] if homes else Home(connector=JobrunnerConnector())
    if namespace is not None:
        home.add_tasks_from(blueprint, namespace=namespace)
        return home
    if taken := sorted(set(home.tasks) & set(blueprint.tasks)):
        raise exceptions.TaskAlreadyRegistered(f"A task named {taken[0]} was already registered")
    for task in blueprint.tasks.values():
        task.blueprint = home
    home.tasks.update(blueprint.tasks)
    return home
