"""Wrong names and types of a call are type errors in both checkers; enqueue is a value on a sync connection, else an awaitable."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CALLS = ROOT / "tests" / "typing" / "calls.py"

RULES = {
    "include": ["calls.py"],
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    "enableTypeIgnoreComments": False,
    "reportUnnecessaryTypeIgnoreComment": True,
    "reportUnusedCoroutine": False,
    "reportUnusedFunction": False,
}


def test_mypy_agrees_with_every_line_of_the_example() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(CALLS)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(shutil.which("node") is None, reason="pyright would have to download its engine")
def test_pyright_agrees_with_every_line_of_the_example(tmp_path: Path) -> None:
    shutil.copy(CALLS, tmp_path)  # it takes no file from outside its project
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(RULES))
    run = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stdout + run.stderr
