"""What a benchmark is and what it gives back: one JSON object, and the same as a table for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one benchmark."""

    data: dict[str, object]
    """What --json prints."""
    table: Table
    """The same for a terminal, with the budgets."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An entry of the registry in `__main__`."""

    summary: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Report]


def show(report: Report, *, as_json: bool) -> None:
    """Print *report* on stdout."""
    if as_json:
        print(json.dumps(report.data, ensure_ascii=False, indent=2))
    else:
        Console().print(report.table)


def say(text: str) -> None:
    """A line of talk for whoever waits; stdout stays for the data."""
    print(text, file=sys.stderr, flush=True)


def names_of(known: Container[str]) -> Callable[[str], list[str]]:
    """The type of an argument that is a list of names, parted by commas, all of them in *known*."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r} among those who can take part")
        return found

    return names


def count(text: str) -> int:
    """An argument that is a number of things: 1 or more, `_` allowed."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number
