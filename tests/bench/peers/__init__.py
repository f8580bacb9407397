"""Installs the peers into .bench/, one folder each, and runs their programs.

*.txt pins the exact versions. *_worker.* are the programs; they run in a peer's environment and import nothing of ours.
"""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.bench.report import say
from tests.bench.rounds import Unavailable
from tests.bench.server import Database

HERE = Path(__file__).parent
FOLDER = HERE.parents[2] / ".bench"
"""Ignored by git; delete it to install anew."""
LIMIT = 900
"""Seconds that an installation or a drain may take."""


def python(peer: str) -> Path:
    """The Python of the peer's own environment, with exactly what its pins name. Installs when they have changed."""
    folder, pins = FOLDER / peer, HERE / f"{peer}.txt"
    found = folder / "bin" / "python"
    if not _is_made(folder, pins):
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(found), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
        _install([*pip, "install", "-r", str(pins)])
        _mark_made(folder, pins)
    return found


def node_modules(peer: str, npm: Sequence[str]) -> Path:
    """The folder where npm has put exactly what the peer's pins name."""
    folder, pins = FOLDER / f"{peer}-modules", HERE / f"{peer}-npm.txt"
    if not _is_made(folder, pins):
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
        _install([*npm, "install", *options, *pins.read_text().split()])
        _mark_made(folder, pins)
    return folder


def pinned(pins: str, package: str, mark: str) -> str:
    """The version of *package* in the pins of that name; *mark* parts them: == for pip, @ for npm."""
    lines = (HERE / f"{pins}.txt").read_text().split()
    return next(line.removeprefix(package + mark) for line in lines if line.startswith(package + mark))


def call(command: Sequence[object], database: Database) -> str:
    """Runs a peer's program on *database*, to its end; returns what it printed.

    Raises:
        RuntimeError: it failed, with the last of what it said.
    """
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **database.environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout)[-2000:]
        raise RuntimeError(f"{Path(str(command[1])).name} ended with {done.returncode}: {said}")
    return done.stdout


def _install(command: list[str]) -> None:
    say(f"installing {' '.join(command[-2:])}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Unavailable(f"it could not be installed: {problem}") from problem
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no word why"]
        raise Unavailable(f"it could not be installed: {said[-1]}")


def _is_made(folder: Path, pins: Path) -> bool:
    made = folder / "made-from.txt"
    return made.is_file() and made.read_text() == pins.read_text()


def _mark_made(folder: Path, pins: Path) -> None:
    (folder / "made-from.txt").write_text(pins.read_text())
