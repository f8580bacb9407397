"""An app's events as an AsyncAPI 3.0 document: takes an App, returns plain data; `compatibility` compares two of them.

A channel for each type and pattern, `send` for what the app says it publishes, `receive` for what its subscriptions take, a
message for each class. The same code gives the same text: everything is sorted. docs/asyncapi.md has the page for people.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import pydantic
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaWarningKind, models_json_schema

from jobrunner.errors import ConfigError
from jobrunner.ops.draft7 import as_draft_7
from jobrunner.policy.events import Event, type_of
from jobrunner.policy.topics import is_literal, matches

if TYPE_CHECKING:
    from jobrunner.worker.app import App
    from jobrunner.worker.subscription import Subscription

Document: TypeAlias = dict[str, Any]
"""An AsyncAPI document, or an object in one."""

JSON = "application/json"
OPEN = "any"
"""The message of a handler that takes any payload; every other name ends in .v and a version."""
HEADERS = "jobrunner.headers"
"""The schema of what comes beside a payload; a dot is in no name that pydantic gives."""

_TEXT: Document = {"type": "string"}
_ATTRIBUTES: Document = {
    "specversion": {"type": "string", "const": "1.0"},
    "id": {"type": "string", "format": "uuid", "description": "The same for ever: the idempotency key."},
    "source": {"type": "string", "description": "Who published it."},
    "type": {"type": "string", "description": "Words with dots."},
    "time": {"type": "string", "format": "date-time", "description": "When it was published."},
    "datacontenttype": {"type": "string", "const": JSON},
    "dataschema": {"type": "string", "description": "urn:jobrunner:TYPE:VERSION, as it was published."},
    "correlationid": {"type": "string", "format": "uuid", "description": "One for everything that one fact caused."},
    "causationid": {"type": "string", "description": "The id of the event that caused it, or job:ID."},
    "subject": {"type": "string", "description": "What it is about: order:42."},
    "partitionkey": {"type": "string", "description": "What orders it."},
    "sequence": {"type": "string", "pattern": "^[0-9]{19}$", "description": "Its position in the log."},
    "traceparent": _TEXT,
    "tracestate": _TEXT,
}
_ALWAYS = ["correlationid", "datacontenttype", "dataschema", "id", "source", "specversion", "time", "type"]


class Schemas(GenerateJsonSchema):
    """Schemas of what is really written: a field with a default is in every payload."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Whether a payload always has *field*."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return not (field.get("serialization_exclude") or field.get("serialization_exclude_if"))
        return super().field_is_required(field, total)

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """As text a Decimal is not any text."""
        made = super().decimal_schema(schema)
        for one in made.get("anyOf", [made]):
            if one.get("type") == "string":
                one.pop("pattern", None)  # in some versions of pydantic, and not in others
                one["format"] = "decimal"
        return made


def document(app: App, *, version: str = "1.0.0") -> Document:
    """The events of *app*. *version* is that of the document's interface, which an app does not know of itself.

    Raises:
        ConfigError: a class of events that no JSON schema can describe.
    """
    received = {cls for one in app.subscriptions for cls in one.classes.values()}
    names = _message_names(app, received)
    messages, schemas = _messages(app, names, received)
    channels: Document = {}
    operations: Document = {}
    for name, cls in app.published.items():
        operations[f"publish:{name}"] = {"action": "send", **_on(channels, name, [names[cls]])}
    for one in app.subscriptions:
        operations.update(_receives(one, channels, names))
    if any(OPEN in channel["messages"] for channel in channels.values()):
        messages[OPEN] = {
            "name": OPEN,
            "title": "Any event",
            "contentType": JSON,
            "headers": {"$ref": f"#/components/schemas/{HEADERS}"},
            "payload": {"type": "object"},
        }
    if messages:
        schemas[HEADERS] = {"type": "object", "properties": _ATTRIBUTES, "required": _ALWAYS}
    made = {
        "asyncapi": "3.0.0",
        "info": {"title": app.name, "version": version},
        "defaultContentType": JSON,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }
    sorted_copy: Document = json.loads(json.dumps(made, sort_keys=True))
    return sorted_copy


def _message_names(app: App, received: Iterable[type[Event]]) -> dict[type[Event], str]:
    """One for each class: order.paid.v2; where several describe that, all but the published (or first) one add their own."""
    published = list(app.published.values())
    rest = sorted(set(received).difference(published), key=lambda cls: (cls.__qualname__, cls.__module__))
    names: dict[type[Event], str] = {}
    for cls in [*published, *rest]:
        declared = type_of(cls)
        base = f"{declared.name}.v{declared.version}"
        long = re.sub(r"\W", "_", f"{cls.__module__}.{cls.__qualname__}", flags=re.ASCII)
        short = re.sub(r"\W", "_", cls.__name__, flags=re.ASCII)
        taken = set(names.values())
        names[cls] = next(name for name in (base, f"{base}.{short}", f"{base}.{long}") if name not in taken)
    return names


def _messages(app: App, names: Mapping[type[Event], str], received: set[type[Event]]) -> tuple[Document, Document]:
    """The messages, and the schemas that they refer to."""
    found, schemas = _schemas(app, names, received)
    messages: Document = {}
    for cls, name in names.items():
        declared = type_of(cls)
        told = inspect.cleandoc(cls.__doc__ or "")
        summary = " ".join(told.partition("\n\n")[0].split())
        payload, accepted = found[cls, "serialization"], found.get((cls, "validation"))
        message: Document = {
            "name": declared.name,
            "title": f"{cls.__name__} v{declared.version}",
            "contentType": JSON,
            "headers": {"$ref": f"#/components/schemas/{HEADERS}"},
            "payload": payload,
            "x-jobrunner-version": declared.version,
        }
        if summary:
            message["summary"] = summary
        if "\n\n" in told:
            message["description"] = told
        if declared.key is not None:
            field = cls.model_fields[declared.key]
            message["x-jobrunner-key"] = field.serialization_alias or field.alias or declared.key
        if accepted is not None:
            message["x-jobrunner-oldest"] = declared.oldest
            if accepted != payload:
                message["x-jobrunner-accepts"] = accepted
        messages[name] = message
    return messages, schemas


def _schemas(
    app: App, names: Mapping[type[Event], str], received: set[type[Event]]
) -> tuple[Mapping[tuple[Any, JsonSchemaMode], Document], Document]:
    """By class and direction, as a reference; and what those refer to."""
    wanted: list[tuple[type[pydantic.BaseModel], JsonSchemaMode]] = []
    for cls in sorted(names, key=lambda cls: names[cls]):
        wanted.append((cls, "serialization"))
        if cls in received:
            wanted.append((cls, "validation"))
    try:
        found, made = models_json_schema(wanted, ref_template="#/components/schemas/{model}", schema_generator=Schemas)
    except PydanticInvalidForJsonSchema as error:
        raise ConfigError(f"the events of app {app.name}", f"have no JSON schema: {error.message}") from error
    return found, {name: as_draft_7(schema) for name, schema in made.get("$defs", {}).items()}


def _receives(one: Subscription[Any, Any], channels: Document, names: Mapping[type[Event], str]) -> Document:
    """The operations of a subscription: an operation has one channel, so one for each of its patterns."""
    operations: Document = {}
    told = inspect.cleandoc(getattr(one, "handler", one.function).__doc__ or "").partition("\n\n")[0]
    for pattern in one.declaration.types:
        taken = sorted(names[cls] for name, cls in one.classes.items() if matches(name, [pattern]))
        if one.takes_any and pattern not in one.classes:
            taken.append(OPEN)
        operation = {"action": "receive", **_on(channels, pattern, taken)}
        operation["x-jobrunner-subscription"] = one.name
        operation["x-jobrunner-ordered"] = one.declaration.ordered
        if told:
            operation["summary"] = " ".join(told.split())
        operations[one.name if len(one.declaration.types) == 1 else f"{one.name}:{pattern}"] = operation
    return operations


def _on(channels: Document, pattern: str, messages: list[str]) -> Document:
    """An operation's references to the channel of *pattern* and the *messages* in it, which are added to it."""
    channel = channels.setdefault(pattern, _channel(pattern))
    channel["messages"] |= {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    here = f"#/channels/{quote(pattern, safe='*')}"
    return {"channel": {"$ref": here}, "messages": [{"$ref": f"{here}/messages/{name}"} for name in messages]}


def _channel(pattern: str) -> Document:
    if is_literal(pattern):
        return {"address": pattern, "messages": {}}
    words, parameters = [], {}
    for number, word in enumerate(pattern.split("."), 1):
        if word in ("*", "#"):
            name = f"word{number}" if word == "*" else f"words{number}"
            told = "One word." if word == "*" else "Any number of words with dots between them, or none."
            parameters[name] = {"description": told}
            word = f"{{{name}}}"
        words.append(word)
    return {
        "address": ".".join(words),
        "description": f"Every type that matches {pattern}.",
        "messages": {},
        "parameters": parameters,
        "x-jobrunner-pattern": pattern,
    }
