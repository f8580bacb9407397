"""docs/settings.md: every setting that the code reads, with the default that the code has."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Backoff, Runner
from tests.conftest import Connection

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def table(before: str) -> dict[str, str]:
    """The first two cells of the first table after *before*, without their backticks."""
    lines = PAGE[PAGE.index(before) :].splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("|---"))
    rows = [line.split("|")[1:3] for line in lines[start + 1 :][: lines[start + 1 :].index("")]]
    return {name.strip(): default.strip().strip("`") for name, default in rows}


@pytest.mark.parametrize(
    ("before", "function"),
    [
        ("## A runner", Runner.__init__),
        ("## A task", App.task),
        ("`Backoff(…)`", Backoff.__init__),
        ("## A subscription", App.on),
    ],
)
def test_every_argument_is_there_with_its_default(before: str, function: Callable[..., Any]) -> None:
    taken = inspect.signature(function).parameters
    options = {
        name: one.default for name, one in taken.items() if name not in {"self", "app", "dsn", "function", "what"}
    }

    found = {name.strip("`"): ast.literal_eval(default) for name, default in table(before).items()}

    assert found == options


def test_every_variable_of_the_environment_is_there() -> None:
    read = {
        name
        for path in (ROOT / "jobrunner").rglob("*.py")
        for name in re.findall(r'environ(?:\.get\(|\[)"(\w+)"|"(\w+)" (?:not )?in os\.environ', path.read_text())
        for name in name
        if name
    }

    assert read >= {"JOBRUNNER_DSN", "JOBRUNNER_LISTEN_DSN"}
    assert read <= set(re.findall(r"`(\w+)`", PAGE[: PAGE.index("## A runner")]))


def test_every_setting_in_the_database_is_there(tx: Connection) -> None:
    stored: dict[str, str] = dict(tx.execute("select name, value #>> '{}' from jobrunner.settings").fetchall())
    told = {
        one: default for names, default in table("## In the database").items() for one in re.findall(r"`(\w+)`", names)
    }

    assert told.keys() == stored.keys()
    assert {name: told[name] for name in told if told[name]} == {
        name: value for name, value in stored.items() if told[name]
    }
