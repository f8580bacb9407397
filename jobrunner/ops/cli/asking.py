"""Asking a person, and reading what he wrote: a yes, an instant, a JSON object, name=value pairs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime

import typer
from rich.console import RenderableType

from jobrunner.errors import BadDuration, ConfigError, Refused
from jobrunner.ops.cli import output
from jobrunner.ops.cli.session import Session
from jobrunner.policy.durations import duration
from jobrunner.policy.models import Json


def confirm(session: Session, action: str, preview: Callable[[], RenderableType]) -> None:
    """Returns when a person at a terminal, shown *preview*, says yes to *action* ("discard 4 jobs"); asks nobody elsewhere.

    Raises:
        Refused: there is no terminal.
        typer.Exit: he said no.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(action)
    output.console(err=True).print(preview())
    if not typer.confirm(f"{action[0].upper()}{action[1:]}?", err=True):
        session.say("nothing changed")
        raise typer.Exit(Refused.exit_code)


def instant(text: str, option: str) -> datetime:
    """The time that *text* names, with its zone. Raises ConfigError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(option, f"is not a time, got {text!r}; write it like 2030-01-31T09:00:00Z") from None
    if at.utcoffset() is None:
        told = at.isoformat()  # a date alone has become a time here
        raise ConfigError(option, f"needs a time zone, got {text!r}; write it like {told}Z or {told}+02:00")
    return at


def instant_or_age(text: str | None, option: str, now: Callable[[], datetime]) -> datetime | None:
    """The time that *text* names: an instant, or how long ago by the clock *now*. Raises ConfigError."""
    if text is None:
        return None
    try:
        return now() - duration(text, what=option)
    except BadDuration:
        if "-" not in text and ":" not in text:
            problem = f"is neither a time nor a length of time, got {text!r}; write it like 2030-01-31T09:00:00Z or 2h"
            raise ConfigError(option, problem) from None
    return instant(text, option)


def json_object(text: str, option: str) -> dict[str, Json]:
    """The JSON object in *text*, or on stdin when it is "-". Raises ConfigError."""
    if text == "-":
        text = sys.stdin.read()
    try:
        value: Json = json.loads(text)
    except json.JSONDecodeError as error:
        near = f", near {text[max(0, error.pos - 10) : error.pos + 10]!r}" if text else ""
        where = f"line {error.lineno}, column {error.colno}{near}"
        raise ConfigError(option, f"is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise ConfigError(option, "is nested too deep") from None
    if not isinstance(value, dict):
        raise ConfigError(option, f'must be an object like {{"order_id": 42}}, got {text[:40]}')
    return value


def pairs(given: Sequence[str] | None, option: str) -> dict[str, Json]:
    """The name=value pairs as a dict; every value is text. Raises ConfigError."""
    found: dict[str, Json] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise ConfigError(option, f"is written name=value, got {one!r}")
        found[name] = value
    return found
