"""The range of procrastinate that is supported: written down in one way, and run at both ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobrunner.procrastinate.desk import SUPPORTED
from tests.test_architecture import PROJECT, ROOT

OLDEST, NEWEST = SUPPORTED.split(" to ")


def test_the_range_is_the_same_wherever_it_stands() -> None:
    major, minor = NEWEST.split(".")
    assert f"procrastinate>={OLDEST},<{major}.{int(minor) + 1}" in PROJECT["dependencies"]
    assert f"\nprocrastinate=={NEWEST}." in (ROOT / "constraints.txt").read_text(), "the tests run on the newest"
    assert f"procrastinate {SUPPORTED}" in (ROOT / "docs" / "procrastinate.md").read_text()


def test_the_oldest_release_works_too() -> None:
    """Tests from here, in a process that finds that release first. The queries are the same ones; the worker is another."""
    there = Path(sys.prefix) / f"procrastinate-{OLDEST}"
    if not there.exists():
        if not os.environ.get("CI"):
            pytest.skip(f"procrastinate {OLDEST} is not in {there.name}: CI=1 installs it")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--target", str(there)]
        subprocess.run([*install, f"procrastinate=={OLDEST}"], check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(there)}
    told = [sys.executable, "-c", "from importlib.metadata import version; print(version('procrastinate'))"]
    assert subprocess.run(told, env=environment, capture_output=True, text=True, check=True).stdout.strip() == OLDEST
    parts = ("deferring", "working", "ending", "events", "managing", "runner_ours", "rehearsal", "adopt")
    files = [f"tests/procrastinate/test_{name}.py" for name in parts]
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "ours or rehearsal or adopt or its_command",
            "-m",
            "not faults",
            *files,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
