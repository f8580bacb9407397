"""The OpenAPI 3.1 document of the API: written by hand, and every answer is tested against it."""

from __future__ import annotations

from functools import cache
from typing import Any

from jobrunner.ops.http.parameters import LIMIT
from jobrunner.ops.http.schemas import COMPONENTS, FLAG, ID, STATE, TEXT, Schema, listing, ref
from jobrunner.version import VERSION

_WAIT: Schema = {"type": "string", "examples": ["30s", "5m", "1h30m", "7d"]}
_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": LIMIT}
_PARAMETERS: dict[str, tuple[str, Schema]] = {
    "state": ("Only jobs in this state.", STATE),
    "queue": ("Only jobs of this queue.", TEXT),
    "task": ("Only jobs of this task, by its full name.", TEXT),
    "key": ("Only jobs with this key.", TEXT),
    "subject": ("Only jobs about this, like order:42.", TEXT),
    "since": ("Only jobs created within this time.", _WAIT),
    "error": ("Only jobs whose error has this in it, in any case.", TEXT),
    "limit": ("At most so many.", _LIMIT),
    "cursor": ("The next_cursor of the page before.", TEXT),
    "ref": ("A subject like order:42, job:ID or just an ID, or event:UUID.", TEXT),
    "gone": ("Also those that ended within a day.", FLAG),
    "actor": ("Only changes by this person.", TEXT),
    "action": ("Only changes of this kind, like requeue.", TEXT),
    "job": ("Only changes that name this job.", ID),
}
_PATHS: dict[str, tuple[str, tuple[str, ...], Schema]] = {
    "/meta": ("Version, schema version, and what is switched on.", (), ref("Meta")),
    "/overview": ("The headline numbers, the queues, and what needs a person.", (), ref("Overview")),
    "/queues": ("The queues with their jobs by state.", (), listing(ref("Queue"))),
    "/jobs": (
        "Jobs, history included, the newest first.",
        ("state", "queue", "task", "key", "subject", "since", "limit", "cursor"),
        listing(ref("Job")),
    ),
    "/jobs/{id}": ("One job with its attempts, why it does not run, and its tree of causes.", (), ref("JobDetail")),
    "/trace": ("The tree of everything that one fact caused.", ("ref", "limit"), listing(ref("Node"))),
    "/runners": ("The runners.", ("gone",), listing(ref("Runner"))),
    "/tasks": (
        "The tasks that runners registered, and those that jobs wait for and no live runner knows.",
        (),
        listing(ref("Task"), unknown={"type": "array", "items": ref("UnknownTask")}),
    ),
    "/subscriptions": ("The subscriptions and how far each is behind.", (), listing(ref("Subscription"))),
    "/dead": (
        "Dead jobs, the latest to die first.",
        ("queue", "task", "error", "limit", "cursor"),
        listing(ref("Job")),
    ),
    "/dead/groups": ("Dead jobs by what they died of, most jobs first.", ("limit",), listing(ref("DeadGroup"))),
    "/audit": (
        "What people changed, the latest first.",
        ("actor", "action", "job", "limit", "cursor"),
        listing(ref("Change")),
    ),
    "/openapi.json": ("This document.", (), {"type": "object"}),
}


@cache
def document() -> dict[str, Any]:
    """The document; the same one every time."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobrunner",
            "version": VERSION,
            "description": "Jobs, queues and runners as they are now. Read-only. An empty parameter counts as none.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "../v1", "description": "Beside this document."}],
        "security": [{"bearer": []}, {"basic": []}, {}],
        "paths": {path: {"get": _operation(path, *told)} for path, told in _PATHS.items()},
        "components": {
            "schemas": COMPONENTS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "Any user, the token as the password."},
            },
            "responses": {
                "Problem": {
                    "description": "A problem.",
                    "content": {"application/problem+json": {"schema": ref("Problem")}},
                }
            },
        },
    }


def _operation(path: str, summary: str, parameters: tuple[str, ...], answer: Schema) -> Schema:
    given = [{"name": "id", "in": "path", "required": True, "schema": ID}] if "{id}" in path else []
    for name in parameters:
        about, schema = _PARAMETERS[name]
        given.append({"name": name, "in": "query", "required": name == "ref", "description": about, "schema": schema})
    problems = ["400", "401", "503", *(["404"] if "{id}" in path or "ref" in parameters else [])]
    return {
        "operationId": path.strip("/").replace("/", "_").removesuffix(".json").replace("{id}", "one"),
        "summary": summary,
        "parameters": given,
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": {"schema": answer}}},
            **{status: {"$ref": "#/components/responses/Problem"} for status in sorted(problems)},
        },
    }
