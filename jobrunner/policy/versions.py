"""Versions of a payload: upcasters lead from each version to the next, so a handler only ever sees the newest.

An upcaster is a pure function from the payload of one version to that of the next (data in, data out). A chain is complete when
it leads from the oldest version that a log may hold to the class's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import pydantic

from jobrunner.errors import ConfigError, InvalidArguments
from jobrunner.policy.events import Event, EventType, type_of
from jobrunner.policy.models import Json

E = TypeVar("E", bound=Event)

Upcaster: TypeAlias = Callable[[dict[str, Json]], dict[str, Json]]
"""Takes the payload of one version, returns that of the next."""


class Upcasters:
    """The upcasters of one app, by type and the version that they start from."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], Upcaster] = {}

    def add(self, name: str, version: int, step: Upcaster) -> None:
        """*step* leads from *version* of the type *name* to the next.

        Raises:
            ConfigError: there is one already.
        """
        if (name, version) in self._steps:
            raise ConfigError(f"upcaster of {name} version {version}", "is declared already")
        self._steps[name, version] = step

    def check(self, declared: EventType) -> None:
        """Return when every version that a log may hold leads to the newest.

        Raises:
            ConfigError: a step is missing, or leads past the newest version.
        """
        name, version = declared.name, declared.version
        for start in range(declared.oldest, version):
            if (name, start) not in self._steps:
                raise ConfigError(
                    f"event {name}",
                    f"has version {version} and no way from version {start}: declare @app.upcast({name!r}, {start}) above "
                    f"its first subscription, or oldest={start + 1} in its class when no event of version {start} exists",
                )
        if beyond := [start for of, start in self._steps if of == name and start >= version]:
            raise ConfigError(
                f"event {name}", f"has an upcaster from version {max(beyond)}, and its class is version {version}"
            )

    def instance(self, cls: type[E], version: int, data: str, *, reader: str) -> E:
        """*data*, JSON text of *version*, as an instance of *cls*: upcast, then validated. *reader* wants it, for the error.

        Validated as JSON, not as Python values: a class with strict=True takes its own dates and UUIDs only there.

        Raises:
            InvalidArguments: too old, an upcaster raised, or it does not fit; a retry cannot mend it.
        """
        declared = type_of(cls)
        if version < declared.oldest:
            known = f"older than {declared.oldest}, the oldest that the code knows"
            raise InvalidArguments(reader, [f"version {version} of {declared.name} is {known}"])
        start = version
        try:
            if version < declared.version:
                payload: dict[str, Json] = json.loads(data)
                for start in range(version, declared.version):
                    payload = self._steps[declared.name, start](payload)
                data = json.dumps(payload)
        except Exception as error:
            problem = f"the upcaster of {declared.name} from version {start} raised {type(error).__name__}: {error}"
            raise InvalidArguments(reader, [problem]) from error
        try:
            return cls.model_validate_json(data)
        except pydantic.ValidationError as error:
            raise InvalidArguments(reader, problems(error)) from None


def problems(error: pydantic.ValidationError) -> list[str]:
    """What does not fit, one sentence each, without the values: they may be secrets."""
    return [
        f"{'.'.join(map(str, problem['loc'])) or 'args'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    ]
