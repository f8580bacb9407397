"""What the pages tell a person to type: every command is there and takes those options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from jobrunner.ops.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "Dockerfile", ROOT / "sql" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMON = {"--dsn", "--embedded", "--json", "--quiet", "--debug", "--help", "-h"}


def told(page: Path) -> Iterator[str]:
    """What a page tells to type after the word jobrunner: after a prompt, in backticks, in a service file, as a list of words."""
    text = page.read_text(encoding="utf-8")
    yield from re.findall(r"^(?:\$ (?:.*\| *)?|ExecStart=\S*/)jobrunner ([^|\n#]+)", text, re.MULTILINE)
    yield from re.findall(r"`jobrunner ([^`|]+)", text)
    for words in re.findall(r'(?:command|args|CMD):? (\["(?:run|web|migrate|health)".*?\])', text):
        yield " ".join(re.findall(r'"([^"]*)"', words))


def problem(line: str) -> str | None:
    """What is wrong with a command line; None when it could be typed."""
    command: Any = get_command(app)
    words = shlex.split(line.replace("…", "x").replace("'", "’"))
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return None if words[0].isupper() or words[0] == "x" else f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    options = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    for word in words:
        if (
            word.startswith("--")
            and (name := word.partition("=")[0]) not in options | COMMON
            and command.name != "demo"
        ):
            return f"{command.name} takes no {name}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_can_be_typed(page: Path) -> None:
    wrong = {line: found for line in told(page) if (found := problem(line))}

    assert not wrong


def test_the_reader_of_pages_finds_what_is_wrong() -> None:
    assert problem("queues list --json") is None
    assert problem("queues lost") == "there is no command lost"
    assert problem("run shop:app --slotz 3") == "run takes no --slotz"
    assert len(list(told(ROOT / "docs" / "cli.md"))) > 30


def test_what_troubleshooting_quotes_of_why_is_what_why_says() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (`.*?) \|", page.partition("## A job does not start")[2].partition("\n## ")[0], re.MULTILINE
    )
    quoted = [quote for row in rows for quote in re.findall("`([^`]+)`", row)]
    source = (ROOT / "sql" / "functions" / "why.sql").read_text(encoding="utf-8")
    # "starts in" and "is tried again in" are one format with a case of its own.
    said = re.sub(r"format\('Job %s %s in %s", "'starts in %s' 'is tried again in %s", source)

    wrong = [
        quote
        for quote in quoted
        if not re.search("[^']*".join(re.escape(part) for part in re.split("…|(?<![0-9])0(?![0-9])", quote)), said)
    ]

    assert len(quoted) > 8
    assert not wrong
