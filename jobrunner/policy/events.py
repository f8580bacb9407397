"""Events: what a class says about its type, one event on its way out, one as it was recorded, and what a handler sees of it.

class OrderPaid(Event, name="order.paid", version=2, key="order_id", subject="order:{order_id}"):
    order_id: UUID
    amount: Decimal
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pydantic
from pydantic import ConfigDict

from jobrunner.errors import BadName, ConfigError
from jobrunner.policy.models import Json, check_integer, check_name

_TYPE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_TYPE_BYTES, _KEY_BYTES = 200, 512
SYSTEM = "jobrunner"
"""The first word of the types that jobrunner publishes itself."""


@dataclass(frozen=True, slots=True)
class EventType:
    """What a class of events declares."""

    name: str
    """Words with dots: order.paid."""
    version: int
    """Of the payload that this class describes, 1 to 32767."""
    key: str | None
    """The field whose value orders events: what belongs together has one key."""
    subject: str | None
    """What an event is about, with fields in braces: "order:{order_id}"; `trace` finds it by that."""
    oldest: int
    """The oldest version that a log may still hold; from there on there must be a way up."""


class Event(pydantic.BaseModel):
    """The base of event classes: immutable pydantic models that name their type in the class line.

    Class arguments: *name* (required to publish), *version* (1), *key* (a field), *subject* (a template of fields),
    *oldest* (1; say more when no event of an older version was ever published).

    Raises, where the class is declared:
        ConfigError: an argument that cannot work.
    """

    model_config = ConfigDict(frozen=True)
    __event_type__: ClassVar[EventType | None] = None

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        name: str | None = None,
        version: int = 1,
        key: str | None = None,
        subject: str | None = None,
        oldest: int = 1,
        **settings: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**settings)
        cls.__event_type__ = None if name is None else _declared(cls, name, version, key, subject, oldest)

    # The arguments of the class line come by here too, on their way to the method above.
    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        version: int = 1,
        key: str | None = None,
        subject: str | None = None,
        oldest: int = 1,
    ) -> None:
        super().__init_subclass__()


def _declared(
    cls: type[Event], name: str, version: int, key: str | None, subject: str | None, oldest: int
) -> EventType:
    what = f"event class {cls.__name__}"
    check_type(name)
    if name.split(".")[0] == SYSTEM:
        raise ConfigError(what, f"cannot be named {name}: types that begin with {SYSTEM}. belong to jobrunner itself")
    check_integer("version", version, 1, 32767)
    if not 1 <= oldest <= version:
        raise ConfigError(what, f"has oldest={oldest}, which must be between 1 and its version {version}")
    wanted = ({key} if key is not None else set()) | set(_fields_of(subject or "", what))
    if missing := sorted(wanted - cls.model_fields.keys()):
        raise ConfigError(
            what, f"has no field {missing[0]} for its key or subject; it has {', '.join(cls.model_fields)}"
        )
    if odd := [field for field in cls.model_fields if not _comes_back(cls, field)]:
        raise ConfigError(what, f"writes field {odd[0]} under a name that it does not read: give it one alias for both")
    if cls.model_config.get("extra") == "forbid" and cls.model_computed_fields:
        problem = f"writes the computed field {next(iter(cls.model_computed_fields))} and forbids extra ones: it cannot be read"
        raise ConfigError(what, problem)
    return EventType(name, version, key, subject, oldest)


def _comes_back(cls: type[Event], name: str) -> bool:
    """Whether the field is read under the name that it is written under."""
    field = cls.model_fields[name]
    written = field.serialization_alias or field.alias or name
    read = field.validation_alias or field.alias or name
    by_name = cls.model_config.get("populate_by_name") or cls.model_config.get("validate_by_name")
    if isinstance(read, pydantic.AliasChoices):
        return written in read.choices or bool(by_name and written == name)
    return not isinstance(read, str) or read == written or bool(by_name and written == name)


def _fields_of(template: str, what: str) -> list[str]:
    names = re.findall(r"\{(\w+)\}", template)
    if "{" in (rest := re.sub(r"\{\w+\}", "", template)) or "}" in rest:
        raise ConfigError(
            what, f"has a subject that cannot be read: {template!r}; write fields in braces, order:{{id}}"
        )
    return names


def check_type(name: object) -> None:
    """Raise BadName unless *name* can be the type of an event."""
    if not isinstance(name, str) or not _TYPE.fullmatch(name) or len(name) > _TYPE_BYTES:
        problem = f"must be words of letters, digits, _ and -, with dots between them, at most {_TYPE_BYTES} bytes"
        raise BadName("event type", name, problem)


def type_of(event: Event | type[Event]) -> EventType:
    """What the class of *event* declares.

    Raises:
        ConfigError: it has no name.
    """
    found = event.__event_type__
    if found is None:
        cls = event if isinstance(event, type) else type(event)
        raise ConfigError(f"event class {cls.__name__}", f'has no name: class {cls.__name__}(Event, name="…")')
    return found


@dataclass(frozen=True, slots=True)
class Publication:
    """One event on its way out; made by `publication`."""

    type: str
    """Words with dots."""
    version: int
    """Of the payload."""
    data: Mapping[str, Json]
    """The payload."""
    key: str | None
    """What orders it, if anything."""
    subject: str | None
    """What it is about."""


def publication(event: Event, *, key: str | None = None, subject: str | None = None) -> Publication:
    """*event* as it is stored; *key* and *subject* instead of what its class says.

    Raises:
        ConfigError: its class has no name.
        BadName: a key or subject that is empty, too long or has control characters.
    """
    declared = type_of(event)
    data: dict[str, Json] = event.model_dump(mode="json", by_alias=True)
    if key is None and declared.key is not None:
        key = _text(_field(event, data, declared.key))
    if subject is None and declared.subject is not None:
        named = {name: _text(_field(event, data, name)) for name in _fields_of(declared.subject, declared.name)}
        subject = re.sub(r"\{(\w+)\}", lambda found: named[found[1]] or "", declared.subject)
    if key is not None:
        check_name("key", key, _KEY_BYTES)
    if subject is not None:
        check_name("subject", subject, _KEY_BYTES)
    return Publication(declared.name, declared.version, data, key, subject)


def _field(event: Event, data: dict[str, Json], name: str) -> Json:
    alias = type(event).model_fields[name].serialization_alias or type(event).model_fields[name].alias or name
    return data[alias] if alias in data else data.get(name)


def _text(value: Json) -> str | None:
    """A field as a key: text as it is, numbers and the like as JSON writes them."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
